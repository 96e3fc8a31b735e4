"""A new release of yt-dlp is on probation until enough conversions have ended, or enough time has passed."""

from ytmp3.core.errors import FailureCode
from ytmp3.core.probation import ENDS, MAX_BLAMES, MAX_REFUSED, SECONDS, Probation, is_suspicious


def test_failures_that_a_release_may_cause_are_suspicious() -> None:
    assert is_suspicious(FailureCode.EXTRACTOR_BROKEN)
    assert is_suspicious(FailureCode.UPSTREAM_ERROR)
    assert is_suspicious(FailureCode.NO_AUDIO)
    assert is_suspicious(FailureCode.BOT_CHECK)
    for code in (FailureCode.STORAGE_FULL, FailureCode.PRIVATE, FailureCode.TOO_LONG):
        assert not is_suspicious(code)


def test_a_release_passes_by_conversions_or_by_time() -> None:
    probation = Probation(100.0)
    for _ in range(ENDS - 1):
        probation.ended(is_good=True)
    assert not probation.is_passed(100.0 + SECONDS - 1)
    assert probation.is_passed(100.0 + SECONDS)
    probation.ended(is_good=False)
    assert probation.is_passed(100.0)


def test_a_release_does_not_pass_while_it_was_blamed_more_often_than_it_was_good() -> None:
    probation = Probation(0.0)
    assert not probation.is_passed(SECONDS)
    for _ in range(ENDS):
        probation.ended(is_good=False)
    assert not probation.is_passed(SECONDS)
    probation.blame(FailureCode.EXTRACTOR_BROKEN)
    probation.ended(is_good=True)
    assert not probation.is_passed(SECONDS)
    probation.ended(is_good=True)
    assert probation.is_passed(SECONDS)


def test_time_ends_a_step_only_if_the_release_converts_most_of_what_it_gets() -> None:
    probation = Probation(0.0)
    assert probation.may_end_by_time
    probation.ended(is_good=False)
    assert not probation.may_end_by_time
    probation.ended(is_good=True)
    assert probation.may_end_by_time
    probation.blame(FailureCode.BOT_CHECK)
    assert not probation.may_end_by_time
    # In the next step, in which nothing has ended yet, the blame still counts.
    probation.begin_step(9.0)
    assert (probation.seconds(12.0), probation.may_end_by_time) == (3.0, False)
    for _ in range(2):
        probation.ended(is_good=True)
    assert probation.may_end_by_time


def test_refusals_of_the_address_are_repeated_until_the_release_before_was_refused_as_often() -> None:
    probation = Probation(0.0)
    for _ in range(2):
        for _ in range(MAX_REFUSED):
            assert probation.is_repeated(FailureCode.BOT_CHECK)
            probation.refused(FailureCode.EXTRACTOR_BROKEN)
            probation.refused(FailureCode.BOT_CHECK)
        assert not probation.is_repeated(FailureCode.RATE_LIMITED_UPSTREAM)
        assert probation.is_repeated(FailureCode.EXTRACTOR_BROKEN)
        assert not probation.is_repeated(FailureCode.PRIVATE)
        # A success with either release shows that YouTube serves the address.
        probation.succeeded()


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
