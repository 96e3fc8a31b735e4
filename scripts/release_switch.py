"""`python -m scripts.release_switch OLD`: change the yt-dlp release of a loaded service, and lose nothing.

A service converts against the fake YouTube (real weight), first with the built-in release. `ytmp3 extractor use OLD`
fetches an older real release from YTDLP_INDEX. Then, in each round, with 20 conversions under way, the release is
changed from OLD to the built-in one, and back. The conversions under way must end with the release that they began
with, and new ones, submitted all the time, begin with the new one. Prints how many conversions ended, how many failed,
and how long a change took; exits with 1 if any failed, or if an attempt was repeated.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.fake_youtube import Kind, spawn, video_id, watch_url
from tests.fake_youtube.pace import Pace
from tests.stand.service_process import ROOT, ServiceProcess, egress, service_process
from tests.stand.waiting import until

RUNNING: Final = 20
"""Conversions under way at each change."""
SLOW_BYTES_PER_SECOND: Final = 20_000
"""Speed of the downloads that are under way at a change: slow enough to outlast the trial of a release."""
WAIT_SECONDS: Final = 600.0


async def extractor(data: Path, *arguments: str) -> None:
    """Run `ytmp3 extractor` as an operator does, beside the service."""
    command = [sys.executable, "-m", "ytmp3", "extractor", *arguments]
    environment = os.environ | {"DATA_DIR": str(data)}
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment)
    if status := await process.wait():
        raise SystemExit(f"{' '.join(arguments)}: exit code {status}")


async def version_in_use(service: ServiceProcess) -> str:
    """Return what /health says of the release."""
    _, health = await service.get("/health")
    return str(health["checks"]["yt-dlp"]["detail"])


async def change(service: ServiceProcess, data: Path, to: str, number: int) -> list[dict[str, Any]]:
    """Change the release under load. Returns the ended jobs."""
    slow = [await service.submit(watch_url(video_id(Kind.SLOW, number + each))) for each in range(RUNNING)]

    for job in slow:
        await service.until(job["job_id"], "downloading", "converting", seconds=WAIT_SECONDS)
    before = await version_in_use(service)
    began = time.monotonic()
    await extractor(data, "use", to)
    more: list[dict[str, Any]] = []

    async def is_changed() -> bool:
        more.append(await service.submit(watch_url(video_id(Kind.SHORT, number + len(more)))))
        return await version_in_use(service) != before

    await until(is_changed, "the service has changed", seconds=WAIT_SECONDS, poll_seconds=1.0)
    seconds = time.monotonic() - began
    more += [await service.submit(watch_url(video_id(Kind.SHORT, number + 100 + each))) for each in range(RUNNING)]
    still = [(await service.job(job["job_id"]))["status"] for job in slow].count("processing")
    ended = [await service.until(job["job_id"], seconds=WAIT_SECONDS) for job in (*slow, *more)]
    print(f"to {to}: {seconds:.1f} s with the trial; {still} of {RUNNING} still ran at the change; {len(ended)} ended")
    print(f"  /health: {await version_in_use(service)}", flush=True)
    return ended


async def main() -> int:
    """Do the rounds; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release_switch", description=__doc__)
    parser.add_argument("old", metavar="OLD", help="a version of yt-dlp that YTDLP_INDEX has")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    jobs: list[dict[str, Any]] = []
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
            for number in range(options.rounds):
                for place, to in enumerate(("built-in", options.old)):
                    jobs += await change(service, data, to, 1000 * number + 300 * place + 1)
            await extractor(data, "list")
            failed = [job for job in jobs if job["status"] != "completed"]
            repeated = len(service.events("retry scheduled")) + len(service.events("queued again at no cost"))
            crashed = service.log().count("zygote died")
    print(f"{len(jobs)} conversions, {len(failed)} failed, {repeated} attempts repeated, {crashed} zygotes died")
    return 1 if failed or repeated or crashed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
