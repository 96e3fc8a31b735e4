"""What listeners hear of real conversions: the frames of the track, behind a frame that names its duration."""

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import FFMPEG, RunningPipeline, running_pipeline
from tests.stand.waiting import until
from ytmp3.converter.live_sound import LiveSound, SoundLostError
from ytmp3.core.cut import WHOLE, Cut
from ytmp3.core.errors import ConversionError
from ytmp3.core.recipe import Quality
from ytmp3.threads import Threads


async def heard(sound: LiveSound, threads: Threads) -> bytes:
    """Listen from the beginning to the end."""
    reader = await sound.reader(threads)
    assert reader is not None
    try:
        pieces = []
        while piece := await reader.next_piece():
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        reader.close()


async def sound_of(own: RunningPipeline, number: int) -> LiveSound:
    await until(lambda: own.count == number, "the conversion has begun", poll_seconds=0.01)
    return own.sound


@pytest.mark.parametrize(
    ("quality", "cut"),
    [(Quality.K128, WHOLE), (Quality.V2, Cut(start_ms=10_000, end_ms=22_000))],
    ids=["whole", "part"],
)
async def test_a_listener_hears_the_frames_of_the_track(
    youtube: Spawned, tmp_path: Path, quality: Quality, cut: Cut
) -> None:
    threads = Threads("listen", 2)
    async with running_pipeline(youtube, tmp_path) as own:
        converting = asyncio.create_task(own.convert(video_id(Kind.CLIP, 7), quality, cut=cut))
        hearing = asyncio.create_task(heard(await sound_of(own, 1), threads))
        converted = await converting
        assert not hearing.done(), "the end is told only when the track is recorded"
        own.sound.confirm()
        sound = await hearing
    track = converted.path.read_bytes()
    tag = re.search(rb"Xing|Info", track)
    assert tag is not None
    frames = track[tag.start() - 36 :]
    # ffmpeg's own first frame is the only one that differs.
    size = next(size for size in range(100, 1500) if sound.endswith(frames[size:]) and frames[size] == 0xFF)
    assert len(sound) - len(frames) + size < 300
    path = tmp_path / "heard.mp3"
    path.write_bytes(sound)
    shown = await asyncio.to_thread(_described, path)
    seconds = converted.duration_seconds
    assert "Duration: N/A" not in shown
    minutes, rest = re.search(r"Duration: 00:(\d\d):(\d\d\.\d\d)", shown).groups()  # type: ignore[union-attr]
    assert int(minutes) * 60 + float(rest) == pytest.approx(seconds, abs=1.0)
    assert "start: 0.02" in shown, "the encoder's delay is known"


async def test_a_conversion_that_fails_has_no_end_of_the_sound(youtube: Spawned, tmp_path: Path) -> None:
    threads = Threads("listen", 2)
    async with running_pipeline(youtube, tmp_path) as own:
        converting = asyncio.create_task(own.convert(video_id(Kind.HALF, 3)))
        hearing = asyncio.create_task(heard(await sound_of(own, 1), threads))
        with pytest.raises(ConversionError):
            await converting
        own.sound.end()
        with pytest.raises(SoundLostError):
            await hearing


def _described(path: Path) -> str:
    """Return what ffmpeg says about a file."""
    return subprocess.run([FFMPEG, "-i", path], capture_output=True, text=True, check=False).stderr
