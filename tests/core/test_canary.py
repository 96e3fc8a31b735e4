"""What a trial of a release at YouTube has found."""

import pytest

from ytmp3.converter.releases.canary import failure_of, may_blame
from ytmp3.converter.youtube.events import Probed, Sample
from ytmp3.core.errors import FailureCode

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
