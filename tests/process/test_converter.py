"""The pipeline as a whole: real yt-dlp against the fake YouTube, real ffmpeg, real MP3s."""

import asyncio
import hashlib
import os
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import FFMPEG, MIB, RunningPipeline, fake_encoder, running_pipeline
from tests.stand.processes import descriptor_count, is_running, processes_with
from tests.stand.waiting import until
from ytmp3.converter.audio.mp3 import walk_file
from ytmp3.converter.progress import DOWNLOADED, EXTRACTED
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.job import Stage
from ytmp3.core.recipe import Quality

WHOLE = {
    Kind.SHORT: 4.0,
    Kind.M4A: 4.0,
    Kind.INDEX_AT_END: 4.0,
    Kind.MP3: 4.0,
    Kind.MUXED: 4.0,
    Kind.HOSTILE_TITLE: 4.0,
    Kind.CUT_ONCE: 30.0,
}
"""One kind for each container, and the length of its sound."""


def decoded_seconds(path: Path) -> float:
    """Return the duration by decoding every frame with ffmpeg, which is independent of our own measurement."""
    command = [FFMPEG, "-nostdin", "-v", "error", "-stats", "-i", str(path), "-map", "0:a", "-f", "null", "-"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    hours, minutes, seconds = re.findall(r"time=(\d+):(\d+):([\d.]+)", output)[-1]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


async def test_the_sound_is_decodable_from_the_first_frame_to_the_last(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        tracks = await asyncio.gather(*(own.convert(video_id(kind, 1)) for kind in WHOLE))
        for (kind, seconds), track in zip(WHOLE.items(), tracks, strict=True):
            assert track.duration_seconds == pytest.approx(seconds, abs=0.1), kind
            assert await asyncio.to_thread(decoded_seconds, track.path) == pytest.approx(seconds, abs=0.2), kind
            content = track.path.read_bytes()
            assert track.sha256 == hashlib.sha256(content).hexdigest()
            assert track.size_bytes == len(content)
            assert walk_file(track.path).bitrate_kbps == 128
        await own.until_no_child_is_left()


async def test_an_endless_download_is_ended_at_most_16_mib_over_the_limit(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, max_file_bytes=4 * MIB) as own:
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.ENDLESS))
        assert failure.value.code is FailureCode.TOO_LARGE
        assert (own.folder / "scratch-1" / "spool-1").stat().st_size <= 20 * MIB


async def test_sound_that_is_longer_than_announced_and_allowed_is_too_long(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, max_duration_seconds=20.0) as own:
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.UNDERSTATED))
        assert failure.value.code is FailureCode.TOO_LONG


async def test_a_download_that_is_cut_off_again_and_again_is_retried_a_few_times_only(
    youtube: Spawned, tmp_path: Path
) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.CUT_LOOP))
        assert failure.value.code is FailureCode.UPSTREAM_ERROR
    # Unpatched, yt-dlp sends 300 requests a second. Here: two extractions, each with a few requests.
    assert (await asyncio.to_thread(youtube.counts, video_id(Kind.CUT_LOOP))).media_requests <= 20


async def test_a_stalled_download_is_ended_by_the_idle_limit(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, idle_seconds=1.0) as own:
        with pytest.raises(ConversionError, match="no or next to no bytes arrive") as failure:
            await own.convert(video_id(Kind.STALLED))
        assert failure.value.code is FailureCode.UPSTREAM_TIMEOUT
        await own.until_no_child_is_left()


async def test_an_extraction_without_a_response_is_ended_by_its_limit(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, extract_seconds=2.0) as own:
        with pytest.raises(ConversionError, match="extraction") as failure:
            await own.convert(video_id(Kind.HANGS))
        assert failure.value.code is FailureCode.UPSTREAM_TIMEOUT
        await own.until_no_child_is_left()


async def test_progress_never_falls_and_the_metadata_are_reported_once(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        await own.convert(video_id(Kind.SLOW))
        progress = [report.progress for report in own.reports]
        assert progress == sorted(progress)
        assert len(progress) >= 6
        assert progress[-1] <= 1
        assert [report.metadata is not None for report in own.reports].count(True) == 1
        stages = list(dict.fromkeys(report.stage for report in own.reports))
        assert stages == [Stage.DOWNLOADING, Stage.CONVERTING]


async def test_encoding_begins_while_the_download_is_still_running(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        # This download stops in the middle, so it alone brings the progress only to half of its share.
        conversion = asyncio.create_task(own.convert(video_id(Kind.STALLED)))
        download_share = EXTRACTED + DOWNLOADED

        def is_encoding() -> bool:
            return any(report.progress > download_share for report in own.reports)

        await own.until_reached(conversion, is_encoding)
        assert {report.stage for report in own.reports} == {Stage.DOWNLOADING}
        conversion.cancel()
        await asyncio.wait([conversion])


async def test_an_mp3_of_the_wanted_rate_is_copied_not_encoded(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        copied = await own.convert(video_id(Kind.MP3), Quality.K192)
        spool = (own.folder / "scratch-1" / "spool-1").read_bytes()
        assert spool[-50_000:] == copied.path.read_bytes()[-50_000:]


@pytest.mark.parametrize(("quality", "kbps"), [(Quality.K320, 320), (Quality.K96, 96), (Quality.V5, None)])
async def test_the_quality_decides_the_bit_rate(
    youtube: Spawned, tmp_path: Path, quality: Quality, kbps: int | None
) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        track = await own.convert(video_id(Kind.SHORT), quality)
        assert walk_file(track.path).bitrate_kbps == kbps


async def test_a_cover_is_square_and_its_absence_harms_nothing(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        pictured, plain = await asyncio.gather(
            own.convert(video_id(Kind.SHORT)), own.convert(video_id(Kind.THUMBNAIL_JUNK))
        )
    command = [FFMPEG, "-nostdin", "-hide_banner", "-i", str(pictured.path)]
    probe = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    output: str = probe.stderr
    found = re.search(r"Video: mjpeg.* (\d+)x(\d+)", output)
    assert found
    assert found[1] == found[2]
    assert "Fake short" in output
    assert b"APIC" not in plain.path.read_bytes()[:4096]


@pytest.mark.parametrize(
    ("kind", "is_reached"),
    [
        pytest.param(Kind.HANGS, lambda own: own.children, id="extracting"),
        pytest.param(Kind.STALLED, lambda own: own.reports, id="extracted"),
        pytest.param(Kind.SLOW, lambda own: len(own.children) == 2, id="downloading and encoding"),
        pytest.param(Kind.STALLED, lambda own: own.progress > EXTRACTED + DOWNLOADED, id="waiting for input"),
        pytest.param(Kind.CLIP, lambda own: own.stage is Stage.CONVERTING, id="encoding"),
        pytest.param(Kind.THUMBNAIL_HANGS, lambda own: own.progress > 0.9, id="waiting for the cover"),
    ],
)
async def test_cancelling_in_any_stage_leaves_no_process(
    youtube: Spawned, tmp_path: Path, kind: Kind, is_reached: Callable[[RunningPipeline], object]
) -> None:
    # The first encoding of a clip takes minutes, so that it cannot end before it is cancelled.
    begun = tmp_path / "begun"
    slow_once = f'[ -e {begun} ] || {{ : > {begun}; set -- -readrate 0.1 "$@"; }}\nexec {FFMPEG} "$@"'
    ffmpeg = fake_encoder(tmp_path, slow_once) if kind is Kind.CLIP else None
    async with running_pipeline(youtube, tmp_path, ffmpeg=ffmpeg) as own:
        task = asyncio.create_task(own.convert(video_id(kind)))
        await own.until_reached(task, lambda: is_reached(own))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await own.until_no_child_is_left()
        # Its slots are free again.
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes


async def test_cancelling_a_short_conversion_at_any_moment_leaves_no_process(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        for step in range(12):
            task = asyncio.create_task(own.convert(video_id(Kind.SHORT)))
            await asyncio.wait([task], timeout=0.03 * step)
            task.cancel()
            await asyncio.wait([task])
            await own.until_no_child_is_left()


async def test_25_conversions_leave_no_descriptor_no_process_and_no_thread(youtube: Spawned, tmp_path: Path) -> None:
    kinds = [Kind.SHORT, Kind.M4A, Kind.PRIVATE, Kind.RANDOM, Kind.HALF]
    async with running_pipeline(youtube, tmp_path) as own:
        await own.convert(video_id(Kind.SHORT))
        before = descriptor_count(os.getpid()), descriptor_count(own.zygote_pid)
        threads = set(threading.enumerate())
        ids = [video_id(kinds[number % len(kinds)], number) for number in range(25)]
        for start in range(0, 25, 5):
            await asyncio.gather(*(own.convert(each) for each in ids[start : start + 5]), return_exceptions=True)
        await own.until_no_child_is_left()

        def holds_no_more() -> bool:
            return descriptor_count(os.getpid()) <= before[0] and descriptor_count(own.zygote_pid) <= before[1]

        # Threads close some of them, and the zygote those of the last child, a moment after a conversion has ended.
        await until(holds_no_more, f"no more descriptors are open than {before}")
        # The pools for files and for verifying have a fixed size, and keep their threads.
        pools = ("asyncio_", "converter-files_", "verifier_")
        new = [thread.name for thread in threading.enumerate() if thread not in threads]
        assert [name for name in new if not name.startswith(pools)] == []


async def test_the_check_finds_every_program_working(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        checks = await own.pipeline.check()
        assert [check.name for check in checks] == ["yt-dlp", "yt-dlp-ejs", "deno", "solver", "ffmpeg", "sandbox"]
        assert all(check.ok for check in checks), checks
        assert [check.name for check in checks if check.version is None] == ["solver", "sandbox"]


async def test_a_missing_ffmpeg_is_named_and_conversions_say_so(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, ffmpeg=tmp_path / "nothing-here") as own:
        (ffmpeg,) = [check for check in await own.pipeline.check() if check.name == "ffmpeg"]
        assert not ffmpeg.ok
        assert "No such file" in ffmpeg.detail
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.SHORT))
        assert failure.value.code is FailureCode.TOOL_MISSING


async def test_close_ends_every_process(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, is_kept=False) as own:
        tasks = [asyncio.create_task(own.convert(video_id(Kind.SLOW, number))) for number in range(3)]
        await own.until_both_children_run()
        processes = {own.zygote_pid, *own.children}
        await own.pipeline.close()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, ConversionError) and end.code is FailureCode.TOOL_MISSING for end in ends)
        await until(lambda: not any(map(is_running, processes)), "every process has ended")
    await until(lambda: not processes_with(str(tmp_path)), "no process of this test is left")


async def test_trouble_at_youtube_is_counted_by_kind(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        await own.convert(video_id(Kind.SHORT))
        assert own.pipeline.signs() == {}
        with pytest.raises(ConversionError):
            await own.convert(video_id(Kind.PAGE_429))
        assert own.pipeline.signs()["rate_limited"] > 0
