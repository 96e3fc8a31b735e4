"""`python -m scripts.release_switch OLD`: change the yt-dlp release of a loaded service, and lose nothing.

A service converts against the fake YouTube (real weight), first with the built-in release. `ytmp3 extractor use OLD`
fetches an older real release from YTDLP_INDEX. Then, in each round, with 20 conversions under way, the release is
changed from OLD to the built-in one, and back. YouTube sends the sound of these 20 so slowly that none can end before
the change, and at full speed after it. They must end with the release that they began with, and new conversions,
submitted all the time, begin with the new one. Prints how many conversions were under way, ended and failed, and how
long a change took. Exits with 1 if any failed, if an attempt was repeated, or if fewer than 20 were under way.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.fake_youtube import Kind, Spawned, spawn, video_id, watch_url
from tests.fake_youtube.pace import Pace
from tests.stand.service_process import ROOT, ServiceProcess, egress, service_process
from tests.stand.waiting import until

RUNNING: Final = 20
"""Conversions under way at each change."""
SLOW_BYTES_PER_SECOND: Final = 1000
"""Speed of each download until the change. A clip has 0.5 MB, so it takes eight minutes, and the trial of a
release some seconds."""
WAIT_SECONDS: Final = 600.0


async def extractor(data: Path, *arguments: str) -> None:
    """Run `ytmp3 extractor` as an operator does, beside the service."""
    command = [sys.executable, "-m", "ytmp3", "extractor", *arguments]
    environment = os.environ | {"DATA_DIR": str(data)}
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment)
    if status := await process.wait():
        raise SystemExit(f"{' '.join(arguments)}: exit code {status}")


def release_in_use(service: ServiceProcess) -> str:
    """Return the release with which new conversions begin."""
    changes = service.events("extractor release in use")
    return str(changes[-1]["release"]) if changes else "built-in"


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What one change of the release has done."""

    under_way: int
    """Conversions that had begun to download before the change, and had not ended when the service had changed."""
    ended: list[dict[str, Any]]
    """All jobs, at their ends."""


async def change(service: ServiceProcess, youtube: Spawned, data: Path, to: str, number: int) -> Changed:
    """Change the release under load."""
    await asyncio.to_thread(youtube.switch, hurried=False)
    slow = [await service.submit(watch_url(video_id(Kind.SLOW, number + each))) for each in range(RUNNING)]
    for job in slow:
        await service.until(job["job_id"], "downloading", "converting", seconds=WAIT_SECONDS)
    began = time.monotonic()
    await extractor(data, "use", to)
    more: list[dict[str, Any]] = []

    async def is_changed() -> bool:
        more.append(await service.submit(watch_url(video_id(Kind.SHORT, number + len(more)))))
        return release_in_use(service) == to

    await until(is_changed, "the service has changed", seconds=WAIT_SECONDS, poll_seconds=1.0)
    seconds = time.monotonic() - began
    # A conversion that has not ended now had not ended at the change, which is over.
    still = [(await service.job(job["job_id"]))["status"] for job in slow].count("processing")
    await asyncio.to_thread(youtube.switch, hurried=True)
    more += [await service.submit(watch_url(video_id(Kind.SHORT, number + 100 + each))) for each in range(RUNNING)]
    ended = [await service.until(job["job_id"], seconds=WAIT_SECONDS) for job in (*slow, *more)]
    print(
        f"to {to}: {seconds:.1f} s with the trial; {still} of {RUNNING} under way at the change; {len(ended)} ended",
        flush=True,
    )
    return Changed(under_way=still, ended=ended)


async def main() -> int:
    """Do the rounds; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release_switch", description=__doc__)
    parser.add_argument("old", metavar="OLD", help="a version of yt-dlp that YTDLP_INDEX has")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    changes: list[Changed] = []
    with (
        tempfile.TemporaryDirectory(prefix="ytmp3-releases-") as folder,
        spawn(
            Path(folder, "youtube"),
            prepare=(Kind.SLOW, Kind.SHORT),
            pace=Pace(slow_bytes_per_second=SLOW_BYTES_PER_SECOND),
            weight="real",
        ) as youtube,
    ):
        data = Path(folder, "service", "data")
        async with service_process(Path(folder, "service"), **egress(youtube), WORKER_POOL_SIZE="40") as service:
            await extractor(data, "use", options.old)
            await until(lambda: release_in_use(service) == options.old, "the service uses OLD", seconds=WAIT_SECONDS)
            for number in range(options.rounds):
                for place, to in enumerate(("built-in", options.old)):
                    changes.append(await change(service, youtube, data, to, 1000 * number + 300 * place + 1))
            await extractor(data, "list")
            jobs = [job for each in changes for job in each.ended]
            failed = [job for job in jobs if job["status"] != "completed"]
            repeated = len(service.events("retry scheduled")) + len(service.events("queued again at no cost"))
            crashed = service.log().count("zygote died")
    print(f"{len(jobs)} conversions, {len(failed)} failed, {repeated} attempts repeated, {crashed} zygotes died")
    is_loaded = all(each.under_way == RUNNING for each in changes)
    return 1 if failed or repeated or crashed or not is_loaded else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
