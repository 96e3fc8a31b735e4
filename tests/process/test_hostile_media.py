"""Hostile media and pictures: each conversion ends with the right code and within every limit.

The fake YouTube keeps its media in a folder. Hostile files are put there under the names of good ones.
"""

import asyncio
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Pace, Spawned, spawn, video_id
from tests.stand.pipeline import FFMPEG, MIB, RunningPipeline, running_pipeline
from tests.stand.processes import is_running
from ytmp3.core.errors import ConversionError, FailureCode

RSS_BYTES = 400 * MIB


def ffmpeg(*arguments: str) -> None:
    command = [FFMPEG, "-nostdin", "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=600)


def sound(seconds: float) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"sine=frequency=330:sample_rate=48000:duration={seconds}")


def metadata_file(path: Path, text: str) -> str:
    path.write_text(";FFMETADATA1\n" + text)
    return str(path)


def many_tracks(path: Path) -> None:
    """64 audio tracks, of which the first is taken."""
    source = path.with_suffix(".one.webm")
    ffmpeg(*sound(4), "-c:a", "libopus", "-b:a", "32k", "-f", "webm", str(source))
    ffmpeg("-i", str(source), *(["-map", "0:a"] * 64), "-c", "copy", "-f", "webm", str(path))
    source.unlink()


def many_streams(path: Path) -> None:
    """200 streams in an MP4. (ffmpeg needs 6 s of CPU to open a thousand, and treats them alike.)"""
    source = path.with_suffix(".aac.mp4")
    ffmpeg(*sound(30), "-c:a", "aac", "-b:a", "16k", "-ac", "1", "-ar", "8000", str(source))
    ffmpeg("-i", str(source), *(["-map", "0:a"] * 200), "-c", "copy", "-f", "mp4", str(path))
    source.unlink()


def many_channels(path: Path) -> None:
    """32 channels at 192 kHz."""
    silence = b"\0" * (192_000 * 32 * 2 * 5 // 2)
    raw = path.with_suffix(".raw")
    raw.write_bytes(silence)
    ffmpeg("-f", "s16le", "-ar", "192000", "-ac", "32", "-i", str(raw), "-c:a", "copy", "-f", "matroska", str(path))
    raw.unlink()


def big_tags(path: Path) -> None:
    """10 MB of tags."""
    tags = metadata_file(path.with_suffix(".tags"), "".join(f"tag{n}={'x' * 10_000}\n" for n in range(1000)))
    ffmpeg(*sound(30), "-i", tags, "-map_metadata", "1", "-c:a", "libopus", "-b:a", "32k", "-f", "matroska", str(path))


def many_chapters(path: Path) -> None:
    """100,000 chapters."""
    chapters = "".join(f"[CHAPTER]\nTIMEBASE=1/100000\nSTART={n}\nEND={n + 1}\ntitle=c\n" for n in range(100_000))
    file = metadata_file(path.with_suffix(".tags"), chapters)
    ffmpeg(*sound(60), "-i", file, "-map_chapters", "1", "-c:a", "libopus", "-b:a", "32k", "-f", "matroska", str(path))


def ten_hours(path: Path) -> None:
    """Ten hours of silence, announced as four seconds: MPEG 2.5 frames of 8 kbit/s, 72 bytes for 72 ms each."""
    frame = bytes((0xFF, 0xE3, 0x18, 0xC4)) + bytes(68)
    path.write_bytes(frame * 500_000)


def no_index(path: Path) -> None:
    """An MP4 without its index, so that the sound in it cannot be found."""
    whole = path.with_suffix(".whole.mp4")
    ffmpeg(*sound(4), "-c:a", "aac", "-f", "mp4", str(whole))
    content = whole.read_bytes()
    path.write_bytes(content[: content.rindex(b"moov") - 4])
    whole.unlink()


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("song.mp3", b"\0" * 5_000_000)


def picture(path: Path) -> None:
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=320x240:rate=1",
        "-frames:v",
        "1",
        "-f",
        "image2pipe",
        "-c:v",
        "png",
        str(path),
    )


def playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:1/x\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")


def concatenation(path: Path) -> None:
    path.write_text("ffconcat version 1.0\nfile /etc/passwd\nfile http://127.0.0.1:1/x\n")


def bomb(path: Path) -> None:
    """A JPEG of a few kilobytes that claims to have 30,000 x 30,000 pixels."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=1", "-frames:v", "1", "-f", "mjpeg", str(path))
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = (30_000).to_bytes(2) * 2
    path.write_bytes(content)


DONE = "done"
INVALID = {FailureCode.MEDIA_INVALID}
SHORT_OR_INVALID = INVALID | {FailureCode.OUTPUT_TRUNCATED}

# For each kind whose media are replaced: the name of the file, what makes it, and how the conversion may end.
HOSTILE: dict[Kind, tuple[str, Callable[[Path], None], set[FailureCode] | str]] = {
    Kind.SHORT: ("short.webm", many_tracks, DONE),
    Kind.M4A: ("m4a_short.mp4", many_channels, SHORT_OR_INVALID),
    Kind.INDEX_AT_END: ("index_at_end.mp4", no_index, INVALID),
    Kind.MP3: ("mp3.mp3", ten_hours, {FailureCode.TOO_LONG}),
    Kind.MUXED: ("muxed.mp4", picture, INVALID),
    Kind.CLIP: ("clip.webm", big_tags, DONE),
    Kind.M4A_CLIP: ("m4a_clip.mp4", many_streams, DONE),
    Kind.OVERSTATED: ("ten.webm", archive, INVALID),
    Kind.UNDERSTATED: ("sixty.webm", many_chapters, {FailureCode.OUTPUT_TRUNCATED}),
    Kind.SONG: ("song.webm", playlist, INVALID),
    Kind.M4A_SONG: ("m4a_song.mp4", concatenation, INVALID),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    cache = tmp_path_factory.mktemp("hostile")
    for name, make, _ in HOSTILE.values():
        make(cache / name)
    bomb(cache / "1280x720.jpg")
    drip = Pace(slow_bytes_per_second=2000)
    with spawn(tmp_path_factory.mktemp("youtube"), cache=cache, pace=drip) as youtube:
        yield youtube


async def peak_bytes(own: RunningPipeline, done: asyncio.Event) -> int:
    """Return the most memory that any child process held at once, in bytes."""
    peak = 0
    while not done.is_set():
        for pid in own.children:
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))])
        await asyncio.sleep(0.02)
    return peak


async def test_hostile_media_end_with_the_right_code_within_the_limits(hostile: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(hostile, tmp_path, max_file_bytes=64 * MIB, is_kept=False) as own:
        done = asyncio.Event()
        watch = asyncio.create_task(peak_bytes(own, done))
        ends = await asyncio.gather(*(own.convert(video_id(kind)) for kind in HOSTILE), return_exceptions=True)
        done.set()
        wrong = {}
        for (kind, (name, _, expected)), end in zip(HOSTILE.items(), ends, strict=True):
            code: object = end.code if isinstance(end, ConversionError) else end
            if isinstance(end, BaseException) != (expected != DONE) or (expected != DONE and code not in expected):
                wrong[kind] = (name, code, getattr(end, "reason", ""))
        assert wrong == {}
        assert await watch < RSS_BYTES
        zygote = own.zygote_pid
        await own.until_no_child_is_left()
    assert not is_running(zygote)
    # Files were written only into the scratch folders, and there only under our own names.
    assert {path.name for path in tmp_path.iterdir()} == {f"scratch-{n + 1}" for n in range(len(HOSTILE))}
    names = {path.name for path in tmp_path.glob("*/*")}
    assert names <= {"spool-1", "spool-2", "encoded.mp3", "track.mp3", "cover", "cookies"}, names
    assert hostile.refused == ()
    assert hostile.trapped == 0


async def test_a_very_slow_download_counts_as_stalled(hostile: Spawned, tmp_path: Path) -> None:
    """2 kB/s, which no time limit of yt-dlp ends."""
    async with running_pipeline(hostile, tmp_path, idle_seconds=1.5) as own:
        with pytest.raises(ConversionError, match="no or next to no bytes arrive") as failure:
            await own.convert(video_id(Kind.SLOW))
        assert failure.value.code is FailureCode.UPSTREAM_TIMEOUT
        await own.until_no_child_is_left()
