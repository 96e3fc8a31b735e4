"""The checks of a track's duration, for a whole video and for a part of it."""

import pytest

from ytmp3.converter.audio.verify import check_cut, check_duration
from ytmp3.converter.settings import ConversionLimits
from ytmp3.core.cut import WHOLE, Cut
from ytmp3.core.errors import ConversionError, FailureCode

LIMITS = ConversionLimits(
    max_duration_seconds=600,
    max_file_bytes=2**20,
    extract_seconds=1,
    download_seconds=1,
    encode_seconds=1,
    idle_seconds=1,
)
PART = Cut(start_ms=10_000, end_ms=30_000)
TO_THE_END = Cut(start_ms=10_000)
UP_TO_THE_END = Cut(start_ms=10_000, end_ms=200_500)


@pytest.mark.parametrize(
    ("seconds", "announced", "cut", "code"),
    [
        (196.5, 200.0, WHOLE, None),
        (195.5, 200.0, WHOLE, FailureCode.OUTPUT_TRUNCATED),
        (204.5, 200.0, WHOLE, FailureCode.OUTPUT_TRUNCATED),
        (5.0, None, WHOLE, None),
        (601.0, None, WHOLE, None),
        (603.0, None, WHOLE, FailureCode.TOO_LONG),
        (20.0, 200.0, PART, None),
        (19.94, 200.0, PART, FailureCode.OUTPUT_TRUNCATED),
        (20.06, 200.0, PART, FailureCode.OUTPUT_TRUNCATED),
        (200.0, 200.0, PART, FailureCode.OUTPUT_TRUNCATED),
        (187.0, 200.0, TO_THE_END, None),
        (185.0, 200.0, TO_THE_END, FailureCode.OUTPUT_TRUNCATED),
        (187.0, 200.0, UP_TO_THE_END, None),
        (185.0, 200.0, UP_TO_THE_END, FailureCode.OUTPUT_TRUNCATED),
        (20.0, None, PART, None),
        (5.0, None, PART, FailureCode.CUT_OUT_OF_RANGE),
        (5.0, None, TO_THE_END, None),
    ],
)
def test_a_track_must_be_as_long_as_expected(
    seconds: float, announced: float | None, cut: Cut, code: FailureCode | None
) -> None:
    if code is None:
        check_duration(seconds, announced, LIMITS, cut)
        return
    with pytest.raises(ConversionError) as failure:
        check_duration(seconds, announced, LIMITS, cut)
    assert failure.value.code is code


def test_a_part_must_be_inside_the_video_if_its_duration_is_known() -> None:
    for cut, announced in ((WHOLE, 5.0), (PART, 30.0), (PART, None), (TO_THE_END, 11.0)):
        check_cut(cut, announced)
    for cut, announced in ((PART, 20.0), (TO_THE_END, 10.0)):
        with pytest.raises(ConversionError) as failure:
            check_cut(cut, announced)
        assert failure.value.code is FailureCode.CUT_OUT_OF_RANGE
