"""A new release of yt-dlp is on probation until enough conversions have ended, or enough time has passed."""

from ytmp3.core.errors import FailureCode
from ytmp3.core.probation import ENDS, MAX_BLAMES, SECONDS, Probation, is_suspicious


def test_failures_that_a_release_may_cause_are_suspicious() -> None:
    assert is_suspicious(FailureCode.EXTRACTOR_BROKEN)
    assert is_suspicious(FailureCode.UPSTREAM_ERROR)
    assert is_suspicious(FailureCode.NO_AUDIO)
    for code in (FailureCode.BOT_CHECK, FailureCode.STORAGE_FULL, FailureCode.PRIVATE, FailureCode.TOO_LONG):
        assert not is_suspicious(code)


def test_a_release_passes_by_conversions_or_by_time() -> None:
    probation = Probation(100.0)
    for _ in range(ENDS - 1):
        probation.ended(is_good=True)
    assert not probation.is_passed(100.0 + SECONDS - 1)
    assert probation.is_passed(100.0 + SECONDS)
    probation.ended(is_good=False)
    assert probation.is_passed(100.0)


def test_a_larger_share_begins_to_count_again_but_forgives_nothing() -> None:
    probation = Probation(0.0)
    for _ in range(ENDS):
        probation.ended(is_good=True)
    for _ in range(MAX_BLAMES - 1):
        probation.blame(FailureCode.EXTRACTOR_BROKEN)
    probation.begin_step(50.0)
    assert (probation.good, probation.is_passed(50.0 + SECONDS - 1)) == (0, False)
    probation.blame(FailureCode.EXTRACTOR_BROKEN)
    assert probation.is_failed


def test_a_release_fails_after_some_conversions_that_only_the_one_before_could_do() -> None:
    probation = Probation(0.0)
    for _ in range(MAX_BLAMES):
        assert not probation.is_failed
        probation.blame(FailureCode.EXTRACTOR_BROKEN)
    assert probation.is_failed
