"""Long tracks on idle cores: several encoders, one track that is as good as that of one encoder.

The segments are a few seconds long here, so that a short sound has many.
"""

import asyncio
import errno
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import pytest
from msgspec import structs

from tests.fake_youtube import Kind, Spawned, video_id
from tests.fake_youtube.media import default_cache
from tests.stand.hearing import decoded_seconds
from tests.stand.pipeline import FFMPEG, RunningPipeline, fake_encoder, limits, running_pipeline
from tests.stand.processes import processes_with
from tests.stand.waiting import PATIENCE_SECONDS, until
from ytmp3.converter import Converted
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.audio.mp3 import walk_file
from ytmp3.converter.audio.segments import GRID_FRAMES, Plan
from ytmp3.converter.long_track import EncoderPlaces, LongRun, LongTrack
from ytmp3.converter.spool import Spool, SpoolReplacedError
from ytmp3.core.cut import WHOLE, Cut
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.ids import ClientId
from ytmp3.core.loudness import LoudnessMode
from ytmp3.core.recipe import Quality, Recipe
from ytmp3.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

DIVISION: Final = Plan(min_seconds=8.0, segment_frames=4 * GRID_FRAMES)
SECONDS_OF_SEGMENT: Final = 4 * GRID_FRAMES * 1152 / 48000
SHORT_DIVISION: Final = Plan(min_seconds=8.0, segment_frames=2 * GRID_FRAMES)
SHORT_CUT: Final = Cut(end_ms=12_000)
"""Four segments of SHORT_DIVISION."""
ENCODERS: Final = 4
CLIENT: Final = ClientId("addr:192.0.2.1")

# Patterns of the shell for the command lines of the decoder, and of the encoders of segments.
OF_DECODER: Final = "*pipe:3*"
OF_SEGMENTS: Final = "*ch_layout*"
OF_LATER_SEGMENTS: Final = "*write_xing?0*"


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
    async with running_pipeline(
        youtube, tmp_path, cores=idle_cores(), division=DIVISION, encode_concurrency=ENCODERS
    ) as own:
        for quality, cut, loudness in (
            (Quality.K128, WHOLE, LoudnessMode.OFF),
            (Quality.V2, Cut(start_ms=1_003, end_ms=20_000), LoudnessMode.TAGS),
        ):
            hearing = asyncio.create_task(heard(own, own.count + 1, threads))
            track = await own.convert(video_id(Kind.CLIP), quality, cut=cut, loudness=loudness)
            own.sound.confirm()
            assert (await hearing).endswith(frames_of(track.path)), "a listener hears the same frames"
            async with AsyncExitStack() as busy:
                for _ in range(ENCODERS - 1):
                    await busy.enter_async_context(own.pipeline._slots[1].slot(CLIENT))
                other = await own.convert(video_id(Kind.CLIP), quality, cut=cut, loudness=loudness)
            await asyncio.to_thread(compare, track, other, is_constant=quality is Quality.K128)
            await own.until_no_child_is_left()
            assert not (track.path.parent / "segments").exists()
        assert own.pipeline.long_tracks() == {"divided": 2, "busy": 2, "not_divisible": 0}
    assert any(report.progress not in {0.0, 1.0} for report in own.reports)


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


def only_for(pattern: str, body: str) -> str:
    """Return a shell script that plays ffmpeg for command lines of this pattern, and runs the real one for others."""
    return f'case "$*" in {pattern}) {body};; *) exec {FFMPEG} "$@";; esac'


TO_BE_KILLED: Final = f"sleep {200_000 + os.getpid()}"
INDIVISIBLE: Final = {
    # Added, not cut off: the service may have read the end before.
    "segments that end within a frame": only_for(
        OF_SEGMENTS, f"{FFMPEG} \"$@\"; printf '\\377\\373\\220' >> /proc/self/fd/3"
    ),
    "segments that ffmpeg cannot read": only_for(OF_SEGMENTS, 'echo "Invalid data found" >&2; exit 1'),
    "an ffmpeg without WAV": only_for(OF_DECODER, 'echo "Unknown encoder" >&2; exit 1'),
    "a killed encoder": only_for(OF_LATER_SEGMENTS, f'{FFMPEG} "$@"; exec {TO_BE_KILLED}'),
    "a killed decoder": only_for(
        OF_DECODER, f'{{ {FFMPEG} "$@" 3>&1 >/dev/null | head -c 3000000 >&3; }} 2>/dev/null; exec {TO_BE_KILLED}'
    ),
    "a full disk": only_for(OF_LATER_SEGMENTS, 'echo "No space left on device" >&2; exit 1'),
}
REFUSED: Final = [only_for(pattern, "exit 153") for pattern in (OF_DECODER, OF_SEGMENTS)]
"""The status of a process that writes too much. One encoder would not write less."""


async def kill_until_ended(converting: asyncio.Task[Converted]) -> None:
    """Kill the processes that are to be killed, as they appear. They cannot do so themselves: the sandbox forbids it.

    One is not enough: that of a later segment is noticed only when the earlier ones have been joined.
    """
    wanted = TO_BE_KILLED.replace(" ", "\0")

    def kill() -> bool:
        for pid in processes_with(wanted):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return converting.done()

    await until(kill, "the conversion ends")


class TooFewDescriptors(Threads):
    """Threads that cannot open the second segment: the process has reached its limit of open files."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if any(isinstance(each, Path) and each.name == "1.pcm" for each in args):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return await super().run(function, *args, **kwargs)


async def test_a_track_is_encoded_as_a_whole_if_too_few_files_may_be_open(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(
        youtube, tmp_path, cores=idle_cores(), division=SHORT_DIVISION, encode_concurrency=ENCODERS
    ) as own:
        generation = own.pipeline._generations.current
        generation.tools = structs.replace(generation.tools, files=TooFewDescriptors("files", 4))
        track = await own.convert(video_id(Kind.CLIP), cut=SHORT_CUT)
        assert track.duration_seconds == pytest.approx(12, abs=0.001)
        assert own.pipeline.long_tracks() == {"divided": 0, "busy": 0, "not_divisible": 1}


async def test_a_track_whose_division_fails_is_encoded_as_a_whole(youtube: Spawned, tmp_path: Path) -> None:
    played = tmp_path / "played"
    async with running_pipeline(
        youtube,
        tmp_path,
        ffmpeg=fake_encoder(tmp_path, f". {played}"),
        cores=(cores := idle_cores()),
        division=SHORT_DIVISION,
        encode_concurrency=ENCODERS,
    ) as own:
        for number, (what, script) in enumerate(INDIVISIBLE.items(), 1):
            played.write_text(script)
            converting = asyncio.create_task(own.convert(video_id(Kind.CLIP), cut=SHORT_CUT))
            if TO_BE_KILLED in script:
                await kill_until_ended(converting)
            track = await converting
            assert track.duration_seconds == pytest.approx(12, abs=0.001), what
            assert own.pipeline.long_tracks() == {"divided": 0, "busy": 0, "not_divisible": number}, what
            assert warnings_of(track.path) == "", what
            assert not (track.path.parent / "segments").exists(), what
        for script in REFUSED:
            played.write_text(script)
            with pytest.raises(ConversionError) as failure:
                await own.convert(video_id(Kind.CLIP), cut=SHORT_CUT)
            assert failure.value.code is FailureCode.TOO_LARGE
        await own.until_no_child_is_left()
        assert cores.idle == 16
        assert not own.pipeline._slots[1]._held


def half_of_clip(folder: Path) -> Spool:
    """Return a spool whose download has reached the middle."""
    content = (default_cache() / f"{Kind.CLIP.value}.webm").read_bytes()
    spool = Spool(folder / "spool")
    spool.path.write_bytes(content[: len(content) // 2])
    spool.grow(len(content) // 2, len(content))
    return spool


def long_track(own: RunningPipeline, cores: Cores, on_seconds: Callable[[float], None]) -> LongTrack:
    run = LongRun(
        demuxer="matroska",
        recipe=Recipe(quality=Quality.K128),
        target=own.folder / "encoded.mp3",
        announced_seconds=30.0,
        sound=None,
        plan=SHORT_DIVISION,
    )
    places = EncoderPlaces(own.pipeline._slots[1], cores, CLIENT)
    return LongTrack(own.pipeline._generations.current.tools, run, limits(), places, on_seconds)


async def test_a_long_track_begins_again_when_its_download_does(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(
        youtube, tmp_path, cores=(cores := idle_cores()), division=DIVISION, encode_concurrency=ENCODERS
    ) as own:
        # YouTube ends the first download at half of the file.
        track = await own.convert(video_id(Kind.CUT_ONCE))
        assert track.duration_seconds == pytest.approx(30, abs=0.05)
        assert warnings_of(track.path) == ""
        assert own.pipeline.long_tracks()["divided"] == 1

        # The same with a spool whose first download ends for certain after a part of the sound has been encoded.
        spool, seconds = half_of_clip(tmp_path), list[float]()
        encoding = asyncio.create_task(long_track(own, cores, seconds.append).encode(spool, lambda: None))
        await until(lambda: encoding.done() or bool(seconds and seconds[-1] > 5), "a part of the sound is encoded")
        spool.replace()
        with pytest.raises(SpoolReplacedError):
            await encoding
        await own.until_no_child_is_left()
        assert not (tmp_path / "segments").exists()
        assert cores.idle == 16


async def test_a_cancellation_does_not_abort_the_cleanup(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(
        youtube, tmp_path, cores=(cores := idle_cores()), division=DIVISION, encode_concurrency=ENCODERS
    ) as own:
        files, released = own.pipeline._generations.current.tools.files, threading.Event()
        spool, is_waiting = half_of_clip(tmp_path), asyncio.Event()
        encoding = asyncio.create_task(long_track(own, cores, lambda _: None).encode(spool, is_waiting.set))
        try:
            await asyncio.wait_for(is_waiting.wait(), PATIENCE_SECONDS)
            # As if the disk hung: no further call of a file returns, so the cleanup takes time.
            held = [files.executor.submit(released.wait) for _ in range(files.count)]
            await until(lambda: all(each.running() for each in held), "all threads are used")
            spool.replace()
            await until(lambda: "decode" not in {task.get_name() for task in asyncio.all_tasks()}, "the decoder ends")
            await a_few_steps()
            encoding.cancel()
            await a_few_steps()
            assert not encoding.done(), "the cleanup was aborted"
        finally:
            released.set()
        with pytest.raises(asyncio.CancelledError):
            await encoding
        await own.until_no_child_is_left()
        assert not (tmp_path / "segments").exists()
        assert cores.idle == 16
        assert not own.pipeline._slots[1]._held


async def a_few_steps() -> None:
    """Let the other coroutines make more steps than they need to react."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_cancelled_long_track_leaves_no_process_and_gives_its_slots_back(
    youtube: Spawned, tmp_path: Path
) -> None:
    body = only_for(OF_SEGMENTS, "sleep 1000")
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
