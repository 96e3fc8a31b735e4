"""What a trial of a release at YouTube has found."""

from collections.abc import Mapping

import pytest

from ytmp3.converter.releases.canary import PAUSED_UNDECIDED, Trial, failure_of, may_blame, try_videos
from ytmp3.converter.youtube.events import Probed, Sample
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import VideoId
from ytmp3.core.rollout import CanaryVerdict

WHOLE = Sample(size_bytes=2**20, seconds=1.0)
REFUSED = Sample(size_bytes=0, seconds=1.0, error="HTTP Error 403: Forbidden")


def test_a_video_is_served_if_a_part_beyond_its_first_minute_can_be_read() -> None:
    assert failure_of(Probed(beginning=WHOLE, later=WHOLE)) == ""
    # A track of less than a minute has no such part.
    assert failure_of(Probed(beginning=WHOLE)) == ""
    assert "beyond the first minute" in failure_of(Probed(beginning=WHOLE, later=REFUSED))
    assert "the beginning" in failure_of(Probed(beginning=REFUSED))


@pytest.mark.parametrize(
    ("found", "is_blamed"),
    [
        (Probed(beginning=WHOLE, later=REFUSED), True),
        (Probed(code=FailureCode.EXTRACTOR_BROKEN, reason="no format"), True),
        (Probed(code=FailureCode.BOT_CHECK, reason="sign in"), False),
        (Probed(code=FailureCode.STORAGE_FULL, reason="no space"), False),
        # A code of a child that was taken over.
        (Probed(code="no such code", reason="\x1b[2J" + "x" * 10_000), True),
    ],
)
def test_only_failures_that_a_release_may_cause_are_blamed(found: Probed, *, is_blamed: bool) -> None:
    assert may_blame(found) is is_blamed
    assert failure_of(found).isprintable()
    assert 0 < len(failure_of(found)) <= 600


SERVED, FAILED = Probed(beginning=WHOLE, later=WHOLE), Probed(code=FailureCode.EXTRACTOR_BROKEN, reason="no format")
VIDEOS = tuple(VideoId(f"rehearsal{number:02}") for number in range(5))


class Asked:
    """Answers as given, for the new and the established release, and raises TimeoutError without an answer."""

    def __init__(self, new: Mapping[int, Probed], established: Mapping[int, Probed]) -> None:
        self._given = {True: new, False: established}
        self.asked: list[tuple[int, bool]] = []

    async def __call__(self, video_id: VideoId, *, is_new: bool) -> Probed:
        number = VIDEOS.index(video_id)
        self.asked.append((number, is_new))
        if number not in self._given[is_new]:
            raise TimeoutError
        return self._given[is_new][number]

    async def trial(self, *, is_paused: bool = False, must_be_better: bool = False) -> Trial:
        return await try_videos(VIDEOS, self, is_paused=is_paused, must_be_better=must_be_better)


async def test_videos_that_were_served_before_the_time_was_over_count() -> None:
    assert (await Asked({0: SERVED}, {}).trial()).verdict is CanaryVerdict.PASSED
    nothing = await Asked({}, {}).trial()
    assert (nothing.verdict, nothing.is_late) == (CanaryVerdict.UNDECIDED, True)
    # A comparison that was not finished blames nobody.
    assert (await Asked({0: FAILED}, {}).trial()).verdict is CanaryVerdict.UNDECIDED


async def test_a_trial_ends_early_while_conversions_pause_and_nothing_is_learnt() -> None:
    failing = dict.fromkeys(range(len(VIDEOS)), FAILED)
    paused = Asked(failing, failing)
    assert (await paused.trial(is_paused=True)).verdict is CanaryVerdict.UNDECIDED
    assert {number for number, _ in paused.asked} == set(range(PAUSED_UNDECIDED))
    usual = Asked(failing | {4: SERVED}, failing)
    assert (await usual.trial()).verdict is CanaryVerdict.PASSED


async def test_a_release_that_must_be_better_serves_what_the_established_one_does_not() -> None:
    serving = dict.fromkeys(range(len(VIDEOS)), SERVED)
    assert (await Asked(serving, serving).trial()).verdict is CanaryVerdict.PASSED
    as_good = await Asked(serving, serving).trial(must_be_better=True)
    assert (as_good.verdict, "serves the trial videos, too" in as_good.reason) == (CanaryVerdict.UNDECIDED, True)
    assert (await Asked(serving, serving | {1: FAILED}).trial(must_be_better=True)).verdict is CanaryVerdict.PASSED
    refused = Probed(code=FailureCode.STORAGE_FULL, reason="no space")
    unlike = await Asked(serving, dict.fromkeys(serving, refused)).trial(must_be_better=True)
    assert unlike.verdict is CanaryVerdict.UNDECIDED
