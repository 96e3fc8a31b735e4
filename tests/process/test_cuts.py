"""Parts of a video: exact to the sample, and checked against the duration of the video."""

import array
import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.hearing import decoded_seconds
from tests.stand.pipeline import FFMPEG, running_pipeline
from ytmp3.converter.audio.ffmpeg import FILE, encode_arguments
from ytmp3.converter.audio.mp3 import walk_file
from ytmp3.core.cut import Cut
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.recipe import Quality, Recipe

RATE = 44_100


def samples(path: Path) -> "array.array[int]":
    """Decode one channel."""
    command = [FFMPEG, "-nostdin", "-v", "error", "-i", str(path), "-ac", "1", "-f", "s16le", "-"]
    decoded = array.array("h")
    decoded.frombytes(subprocess.run(command, check=True, capture_output=True, timeout=300).stdout)
    return decoded


def encode(source: Path, target: Path, recipe: Recipe) -> None:
    """Encode a WAV file as the service does."""
    command = encode_arguments(FFMPEG, source=FILE, demuxer="wav", recipe=recipe)
    with source.open("rb") as read:
        shell = ["sh", "-c", 'exec "$@" 3<>"$0"', str(target), *command]
        subprocess.run(shell, check=True, capture_output=True, stdin=read, timeout=300)


def test_a_part_begins_and_ends_at_its_sample(tmp_path: Path) -> None:
    source, target = tmp_path / "noise.wav", tmp_path / "part.mp3"
    noise = f"anoisesrc=r={RATE}:d=3:a=0.5:seed=1:c=brown"
    subprocess.run(
        [FFMPEG, "-nostdin", "-v", "error", "-f", "lavfi", "-i", noise, str(source)], check=True, timeout=300
    )
    encode(source, target, Recipe(quality=Quality.K320, cut=Cut(start_ms=1003, end_ms=2253)))
    whole, part = samples(source), samples(target)
    assert len(part) == round(1.25 * RATE)
    assert walk_file(target).duration_seconds == pytest.approx(1.25, abs=1 / RATE)

    def error_at(shift: int) -> int:
        """Return the difference to the source if the part began some samples later."""
        start = round(1.003 * RATE) + shift
        return sum(
            (one - other) ** 2 for one, other in zip(part[200:4200], whole[start + 200 : start + 4200], strict=True)
        )

    errors = {shift: error_at(shift) for shift in (-100, -3, -2, -1, 0, 1, 2, 3, 100)}
    assert min(errors, key=lambda shift: errors[shift]) == 0, errors


async def test_parts_of_videos_in_any_container_have_their_length(youtube: Spawned, tmp_path: Path) -> None:
    parts = {
        (Kind.SHORT, Cut(start_ms=1500, end_ms=1999)): 0.499,
        (Kind.CLIP, Cut(start_ms=20_250, end_ms=27_000)): 6.75,
        (Kind.CLIP, Cut(start_ms=20_250)): 9.75,
        (Kind.CLIP, Cut(end_ms=31_000)): 30.0,
        (Kind.M4A, Cut(start_ms=1000)): 3.0,
        (Kind.INDEX_AT_END, Cut(start_ms=1000, end_ms=1750)): 0.75,
        (Kind.MP3, Cut(start_ms=1000, end_ms=1750)): 0.75,
    }
    async with running_pipeline(youtube, tmp_path) as own:
        tracks = await asyncio.gather(*(own.convert(video_id(kind), cut=cut) for kind, cut in parts))
        for track, ((kind, cut), seconds) in zip(tracks, parts.items(), strict=True):
            assert track.duration_seconds == pytest.approx(seconds, abs=0.02 if cut.end_ms else 0.1), kind
            assert await asyncio.to_thread(decoded_seconds, track.path) == pytest.approx(seconds, abs=0.1), kind
        await own.until_no_child_is_left()
    assert all(0 <= report.progress <= 1 for report in own.reports)


@pytest.mark.parametrize(
    ("kind", "cut", "code"),
    [
        (Kind.SHORT, Cut(start_ms=4000), FailureCode.CUT_OUT_OF_RANGE),
        (Kind.SHORT, Cut(start_ms=1000, end_ms=6001), FailureCode.CUT_OUT_OF_RANGE),
        # Half of the sound has arrived: enough for a part of the first half only.
        (Kind.HALF, Cut(start_ms=1000, end_ms=27_000), FailureCode.OUTPUT_TRUNCATED),
        (Kind.HALF, Cut(start_ms=1000, end_ms=2000), None),
    ],
)
async def test_a_part_must_be_in_the_video_and_in_the_sound_that_arrived(
    youtube: Spawned, tmp_path: Path, kind: Kind, cut: Cut, code: FailureCode | None
) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        if code is None:
            assert (await own.convert(video_id(kind), cut=cut)).duration_seconds == pytest.approx(1.0, abs=0.02)
            return
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(kind), cut=cut)
        assert failure.value.code is code
        await own.until_no_child_is_left()
