"""Long tracks on idle cores: several encoders, one track that is as good as that of one encoder.

The segments are a few seconds long here, so that a short sound has many.
"""

import asyncio
import math
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.hearing import decoded_seconds
from tests.stand.pipeline import FFMPEG, RunningPipeline, fake_encoder, running_pipeline
from tests.stand.waiting import until
from ytmp3.converter import Converted
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.audio.mp3 import walk_file
from ytmp3.converter.audio.segments import GRID_FRAMES, Plan
from ytmp3.core.cut import Cut
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.loudness import LoudnessMode
from ytmp3.core.recipe import Quality
from ytmp3.threads import Threads

DIVISION: Final = Plan(min_seconds=8.0, segment_frames=4 * GRID_FRAMES)
WHOLE: Final = Plan(min_seconds=math.inf)
SECONDS_OF_SEGMENT: Final = 4 * GRID_FRAMES * 1152 / 48000

# Patterns of the shell for the command lines of the decoder, and of the encoders of segments.
OF_DECODER: Final = "*pipe:3*"
OF_SEGMENTS: Final = "*ch_layout*"


def idle_cores() -> Cores:
    """Return more cores than encoders, so that none is bound to a core that this machine may not have."""
    return Cores(range(16), max_encoders=16)


def frames_of(track: Path) -> bytes:
    """Return the frames with sound: all behind the Xing or Info frame."""
    content = track.read_bytes()
    tag = re.search(rb"Xing|Info", content)
    assert tag is not None
    start = content.index(b"\xff\xfb", tag.start())
    return content[start:]


def warnings_of(track: Path) -> str:
    """Decode a track with FFmpeg, and return what it complains about."""
    command = [FFMPEG, "-nostdin", "-v", "warning", "-i", str(track), "-map", "0:a", "-f", "null", "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stderr


async def heard(own: RunningPipeline, number: int, threads: Threads) -> bytes:
    """Listen to a conversion from its first frame to its end."""
    await until(lambda: own.count == number, "the conversion has begun", poll_seconds=0.01)
    reader = await own.sound.reader(threads)
    assert reader is not None
    pieces = []
    try:
        while piece := await reader.next_piece():
            pieces.append(piece)
    finally:
        reader.close()
    return b"".join(pieces)


async def test_a_long_track_has_the_frames_and_the_length_of_one_encoder(youtube: Spawned, tmp_path: Path) -> None:
    threads = Threads("listen", 2)
    folders = [tmp_path / name for name in ("divided", "whole")]
    for folder in folders:
        folder.mkdir()
    async with (
        running_pipeline(youtube, folders[0], cores=idle_cores(), division=DIVISION, encode_concurrency=4) as divided,
        running_pipeline(youtube, folders[1], division=WHOLE) as whole,
    ):
        for number, (quality, cut) in enumerate(
            [(Quality.K128, Cut()), (Quality.V2, Cut(start_ms=1_003, end_ms=20_000))], 1
        ):
            hearing = asyncio.create_task(heard(divided, number, threads))
            loudness = LoudnessMode.TAGS if number == 2 else LoudnessMode.OFF
            track = await divided.convert(video_id(Kind.CLIP), quality, cut=cut, loudness=loudness)
            other = await whole.convert(video_id(Kind.CLIP), quality, cut=cut, loudness=loudness)
            divided.sound.confirm()
            assert (await hearing).endswith(frames_of(track.path)), "a listener hears the same frames"
            await asyncio.to_thread(compare, track, other, is_constant=quality.startswith("1"))
            await divided.until_no_child_is_left()
            assert not list(track.path.parent.glob("segments*"))
    assert any(report.progress not in {0.0, 1.0} for report in divided.reports)


def compare(track: Converted, other: Converted, *, is_constant: bool) -> None:
    assert track.duration_seconds == other.duration_seconds
    assert track.loudness_lufs == other.loudness_lufs
    assert walk_file(track.path).frames == walk_file(other.path).frames
    assert decoded_seconds(track.path) == decoded_seconds(other.path)
    assert warnings_of(track.path) == ""
    frames, others = frames_of(track.path), frames_of(other.path)
    assert frames != others, "it was encoded in one piece"
    # The first segment is that of one encoder.
    same = next(position for position, pair in enumerate(zip(frames, others, strict=False)) if pair[0] != pair[1])
    assert same / len(others) > 0.9 * SECONDS_OF_SEGMENT / other.duration_seconds
    if is_constant:
        assert track.size_bytes == other.size_bytes
    else:
        assert track.size_bytes == pytest.approx(other.size_bytes, rel=0.005)


@pytest.mark.parametrize(
    ("pattern", "body"),
    [
        (OF_SEGMENTS, f'{FFMPEG} "$@"; truncate -s -100 /proc/self/fd/3'),
        (OF_DECODER, 'echo "Unknown encoder" >&2; exit 1'),
    ],
    ids=["segments that end within a frame", "an ffmpeg without WAV"],
)
async def test_a_track_that_cannot_be_divided_is_encoded_as_a_whole(
    youtube: Spawned, tmp_path: Path, pattern: str, body: str
) -> None:
    fake = fake_encoder(tmp_path, f'case "$*" in {pattern}) {body};; *) exec {FFMPEG} "$@";; esac')
    async with running_pipeline(
        youtube, tmp_path, ffmpeg=fake, cores=idle_cores(), division=DIVISION, encode_concurrency=4
    ) as own:
        track = await own.convert(video_id(Kind.CLIP))
        await own.until_no_child_is_left()
    assert track.duration_seconds == pytest.approx(30, abs=0.05)
    assert warnings_of(track.path) == ""


async def test_a_decoder_or_encoder_that_fails_fails_the_conversion(youtube: Spawned, tmp_path: Path) -> None:
    for number, (pattern, code) in enumerate(
        [(OF_DECODER, FailureCode.STORAGE_FULL), (OF_SEGMENTS, FailureCode.STORAGE_FULL)]
    ):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        body = f'case "$*" in {pattern}) echo "No space left on device" >&2; exit 1;; *) exec {FFMPEG} "$@";; esac'
        async with running_pipeline(
            youtube,
            folder,
            ffmpeg=fake_encoder(folder, body),
            cores=idle_cores(),
            division=DIVISION,
            encode_concurrency=4,
        ) as own:
            with pytest.raises(ConversionError) as failure:
                await own.convert(video_id(Kind.CLIP))
            await own.until_no_child_is_left()
            assert failure.value.code is code


async def test_a_cancelled_long_track_leaves_no_process_and_gives_its_slots_back(
    youtube: Spawned, tmp_path: Path
) -> None:
    body = f'case "$*" in {OF_SEGMENTS}) sleep 1000;; *) exec {FFMPEG} "$@";; esac'
    async with running_pipeline(
        youtube,
        tmp_path,
        ffmpeg=fake_encoder(tmp_path, body),
        cores=(cores := idle_cores()),
        division=DIVISION,
        encode_concurrency=3,
    ) as own:
        conversion = asyncio.create_task(own.convert(video_id(Kind.CLIP)))
        # Three encoders hang, as many as may run at once. The decoder waits for them.
        await until(lambda: cores.idle == 13, "three encoders run")
        conversion.cancel()
        with pytest.raises(asyncio.CancelledError):
            await conversion
        await own.until_no_child_is_left()
        assert cores.idle == 16
        assert not own.pipeline._slots[1]._held
