"""Every kind of video of the fake YouTube becomes the track, or the error code, that the fake's table names."""

import asyncio
from pathlib import Path

import pytest

from tests.fake_youtube import BEHAVIOURS, Kind, Spawned, video_id
from tests.fake_youtube.media import seconds_of
from tests.process.test_right_sound import ORIGINALS, SECONDS
from tests.stand.pipeline import running_pipeline
from ytmp3.converter import Converted
from ytmp3.core.errors import ConversionError

ELSEWHERE = {
    Kind.STALLED: "test_converter, with a short limit for silence",
    Kind.HANGS: "test_converter, with a short limit for the extraction",
    Kind.ENDLESS: "test_converter, with a small limit for the download",
    Kind.UNDERSTATED: "test_converter, with a small limit for the duration",
    Kind.THUMBNAIL_HANGS: "test_converter, which cancels it",
    Kind.SLOW: "test_converter, with its progress",
    Kind.SONG: "the benches, because four minutes of sound take seconds to encode",
    Kind.M4A_SONG: "the same, in another format",
    Kind.MIX: "the benches, because twenty minutes of sound take half a minute to make and to encode",
    Kind.HOUR: "the same, and three times as long",
} | dict.fromkeys([*ORIGINALS, *SECONDS], "test_right_sound, which listens to them")
"""Kinds with a test of their own, and where it is."""

KINDS = [kind for kind in Kind if kind not in ELSEWHERE]


def how_it_ended(kind: Kind, end: object) -> str:
    match end:
        case Converted():
            is_whole = end.duration_seconds == pytest.approx(seconds_of(BEHAVIOURS[kind].media), abs=0.2)
            return "done" if is_whole else f"a track of {end.duration_seconds} s"
        case ConversionError():
            return end.code.value
        case _:
            return repr(end)


async def test_every_kind_ends_as_its_table_says(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        ends = await asyncio.gather(*(own.convert(video_id(kind)) for kind in KINDS), return_exceptions=True)
        await own.until_no_child_is_left()
    ended = {kind: how_it_ended(kind, end) for kind, end in zip(KINDS, ends, strict=True)}
    assert ended == {kind: BEHAVIOURS[kind].expected for kind in KINDS}
    assert youtube.trapped == 0
