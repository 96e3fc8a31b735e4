"""`python -m scripts.long_tracks`: kill -9 of a service in the middle of long tracks that are divided between encoders.

For each kill: no process of the killed service is left; after the restart, the same job is completed, its track is
whole, and no file of a segment is left. One line is printed for each kill; the first failed check ends the program.
"""

import argparse
import asyncio
import signal
import tempfile
import time
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, spawn, video_id, watch_url
from tests.stand.hearing import decoded_seconds
from tests.stand.processes import descendants, is_running
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.waiting import until

MIX_SECONDS = 1200.0
"""The length of the video."""
LONGEST_SECONDS = 1800.0
"""Longest time, in seconds, of one conversion, also on a busy machine."""


async def main() -> None:
    """Kill a service so often, each time later in the track."""
    parser = argparse.ArgumentParser(prog="python -m scripts.long_tracks", description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=MIX_SECONDS, help="length of the tracks, from 300 to 1200")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ytmp3-long-") as name:
        folder = Path(name)
        with spawn(folder / "youtube", prepare=(Kind.MIX,)) as youtube:
            for number in range(options.kills):
                started_at = time.monotonic()
                reached = (number + 0.5) / options.kills
                await _killed_at(reached, youtube, folder / f"service-{number}", number, options.seconds)
                print(f"killed at {reached:.0%}: completed in {time.monotonic() - started_at:.0f} s", flush=True)


async def _killed_at(reached: float, youtube: Spawned, folder: Path, number: int, seconds: float) -> None:
    async with service_process(folder, LOG_LEVEL="info", **egress(youtube)) as service:
        part = {} if seconds == MIX_SECONDS else {"end": f"{seconds:g}"}
        status, submitted = await service.post(watch_url(video_id(Kind.MIX, number)), **part)
        assert status == 202, submitted
        job_id = submitted["job_id"]

        async def is_reached() -> bool:
            job = await service.job(job_id)
            assert job["status"] in {"pending", "processing"}, f"it has ended, or was not divided: {job}"
            # The download is a part of the progress, and may be ahead of the first segment.
            return float(job["progress"]) >= reached and bool(_segments(folder))

        await until(is_reached, f"{reached:.0%} are converted", seconds=LONGEST_SECONDS, poll_seconds=0.02)
        children = descendants(service.pid)
        await service.stop(signal.SIGKILL)
        await until(lambda: not any(map(is_running, children)), "every child has ended")
        await service.start()
        await _check(service, job_id, folder, seconds)


async def _check(service: ServiceProcess, job_id: str, folder: Path, seconds: float) -> None:
    job = await service.until(job_id, seconds=LONGEST_SECONDS)
    assert job["status"] == "completed", job
    track = folder / "track.mp3"
    track.write_bytes(await service.download(job))
    found = await asyncio.to_thread(decoded_seconds, track)
    assert abs(found - seconds) < 0.1, found
    await until(lambda: not _segments(folder), "no file of a segment is left")


def _segments(folder: Path) -> list[Path]:
    return list(folder.glob("data/scratch/**/segments/*"))


if __name__ == "__main__":
    asyncio.run(main())
