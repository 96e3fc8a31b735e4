"""The clocks of a download: what counts as silence, and when they stand still."""

import pytest

from tests.fakes import Clock
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.youtube.fetch import SLOWEST_BYTES_PER_SECOND, Watch
from ytmp3.core.errors import ConversionError, FailureCode

IDLE, WHOLE = 60.0, 900.0
LIMITS = ConversionLimits(max_duration_seconds=1, max_file_bytes=10**9, idle_seconds=IDLE, download_seconds=WHOLE)


def is_over(watch: Watch, size_bytes: int = 0, **state: float | bool) -> bool:
    try:
        watch.check(size_bytes, **state)  # type: ignore[arg-type]
    except ConversionError as error:
        return error.code is FailureCode.UPSTREAM_TIMEOUT
    return False


def test_silence_ends_a_download() -> None:
    clock = Clock()
    watch = Watch(LIMITS, clock)
    clock.now += IDLE - 1
    assert not is_over(watch)
    clock.now += 1
    assert is_over(watch)


def test_a_download_may_take_long_but_not_for_ever() -> None:
    clock = Clock()
    watch = Watch(LIMITS, clock)
    size = 0
    for _ in range(int(WHOLE / IDLE)):
        clock.now += IDLE
        size += int(SLOWEST_BYTES_PER_SECOND * IDLE)
        assert not is_over(watch, size)
    clock.now += 1
    assert is_over(watch, size)


def test_an_announced_wait_is_no_silence() -> None:
    clock = Clock()
    watch = Watch(LIMITS, clock)
    waits_until = clock.now + 2 * IDLE
    clock.now = waits_until + IDLE - 1
    assert not is_over(watch, waits_until=waits_until)
    clock.now += 1
    assert is_over(watch, waits_until=waits_until)


def test_both_clocks_stand_still_while_the_child_extracts_again_or_waits_for_that() -> None:
    clock = Clock()
    watch = Watch(LIMITS, clock)
    for _ in range(2 * int(WHOLE)):
        clock.now += 1
        assert not is_over(watch, is_extracting=True)
    clock.now += IDLE - 1
    assert not is_over(watch)
    clock.now += 1
    assert is_over(watch)


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(ConversionError) as failure:
        Watch(LIMITS, Clock()).check(10**9 + 1)
    assert failure.value.code is FailureCode.TOO_LARGE
