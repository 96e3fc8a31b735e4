"""`python -m scripts.bucket`: three real instances with one Valkey and one bucket, and no folder in common.

In each round all instances convert, one of them is killed (SIGKILL) at a random moment and started again, and every
track is then downloaded from an instance that did not accept its job. Even rounds send tracks through the instances,
odd rounds from the object store. At the end the bucket may hold more objects than tracks only where a kill came between
an upload and its record. Only YouTube is replaced. Then one instance sends a large track from the bucket and from its
disk, and the ratio of their speeds is printed.
"""

import argparse
import asyncio
import contextlib
import hashlib
import random
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from tests.fake_youtube import Kind, Spawned, spawn, video_id, watch_url
from tests.http.running_service import running_service
from tests.stand.s3_server import S3Server
from tests.stand.service_process import ServiceProcess, egress
from tests.stand.valkey import Valkey
from ytmp3.storage.s3_requests import QUICK, Bucket

INSTANCES: Final = 3
LARGE_BYTES: Final = 100_000_000
REPEATS: Final = 3


async def run_round(services: list[ServiceProcess], number: int, jobs: int, chance: random.Random) -> int:
    """Convert, kill, and download; return the number of tracks."""
    links = [watch_url(video_id(Kind.SHORT, 1000 * number + index)) for index in range(jobs)]
    accepted = await asyncio.gather(*(services[i % INSTANCES].submit(link) for i, link in enumerate(links)))
    victim = services[number % INSTANCES]
    await asyncio.sleep(chance.uniform(0.1, 3.0))
    await victim.stop(signal.SIGKILL)
    await victim.start()
    for index, job in enumerate(accepted):
        reader = services[(index + 1) % INSTANCES]
        done = await reader.until(job["job_id"])
        assert done["status"] == "completed", done
        content = await reader.download(done)
        assert hashlib.sha256(content).hexdigest() == done["file"]["sha256"]
    return len(accepted)


async def run_instances(folder: Path, server: S3Server, youtube: Spawned, options: argparse.Namespace) -> None:
    chance, tracks = random.Random(options.seed), 0
    (folder / "valkey").mkdir()
    valkey = Valkey(folder / "valkey", settings={"maxmemory-policy": "noeviction", "appendonly": "yes"})
    await asyncio.to_thread(valkey.start)
    try:
        for number in range(options.rounds):
            shared = egress(youtube) | server.environment("run", download=("proxy", "redirect")[number % 2])
            shared |= {"REDIS_ADDR": valkey.address, "LEASE_SECONDS": "6", "LOG_FORMAT": "json"}
            shared |= {"REQUESTS_PER_SECOND": "100000", "BURST_SIZE": "100000"}
            services = [
                ServiceProcess(shared | {"DATA_DIR": str(folder / f"data-{index}")}, folder / f"instance-{index}.log")
                for index in range(INSTANCES)
            ]
            async with AsyncExitStack() as stack:
                for service in services:
                    stack.push_async_callback(_end, service)
                await asyncio.gather(*(service.start() for service in services))
                tracks += await run_round(services, number, options.jobs, chance)
            print(f"round {number + 1}: {shared['S3_DOWNLOAD']}, {tracks} tracks so far, all whole", flush=True)
    finally:
        valkey.stop()
    names = [name async for name, _ in Bucket(server.settings("run"), QUICK).names() if name.endswith(".mp3")]
    folders = list(folder.glob("data-*/tracks"))
    print(f"{tracks} tracks, {len(names)} objects, {len(folders)} folders of tracks on disks, 0 lost jobs")
    assert len(names) >= tracks
    assert not folders


async def _end(service: ServiceProcess) -> None:
    await service.client.close()
    with contextlib.suppress(ProcessLookupError):
        await service.stop(signal.SIGKILL)


async def seconds_of_downloads(folder: Path, settings: dict[str, str]) -> float:
    """Return the CPU time, in seconds, in which this process sends a large track to itself, REPEATS times."""
    async with running_service(folder, **settings) as service:
        service.converter.size_bytes = LARGE_BYTES
        job: dict[str, Any] = await service.completed("dQw4w9WgXcQ")
        started = 0.0
        for number in range(REPEATS + 1):
            if number == 1:  # the first download reads the whole file once more, to verify it
                started = time.process_time()
            async with service.client.get(service.url + job["download_url"]) as response:
                async for _ in response.content.iter_chunked(1 << 20):
                    pass
        return time.process_time() - started


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.bucket", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=30, help="conversions in each round")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ytmp3-bucket-") as name:
        folder = Path(name)
        (folder / "s3").mkdir()
        server = S3Server(folder / "s3")
        await asyncio.to_thread(server.start)
        try:
            with spawn(folder / "youtube", prepare=(Kind.SHORT,)) as youtube:
                await run_instances(folder, server, youtube, options)
            disk = await seconds_of_downloads(folder / "disk", {})
            bucket = await seconds_of_downloads(folder / "bucket", server.environment("speed"))
            print(f"CPU time of a download, with its client: bucket / disk = {bucket / disk:.2f}")
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
