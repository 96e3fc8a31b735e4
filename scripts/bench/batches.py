"""Batches: how soon 1,000 links are accepted, and how fast their archive is sent."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from scripts.bench.load import Latencies
from scripts.bench.measure import median
from scripts.bench.requests import latency_rows, static_nginx
from scripts.bench.services import Bench, Row, own_cpu_seconds, service_with
from tests.fake_youtube import Kind
from tests.http.batch_requests import created, ended, video
from tests.http.running_service import running_service
from tests.stand.service_process import ServiceProcess
from tests.stand.waiting import until

LINKS = 1000
ARCHIVED_BYTES = 5_000_000
"""Size of each archived track: that of a song of 3.5 minutes at 192 kbit/s."""


async def batches(bench: Bench) -> list[Row]:
    """Post batches of 1,000 links, one after the other. Each is cancelled, so that few of its items are converted."""
    rows: list[Row] = []
    for store in ("sqlite", "redis"):
        seconds: list[float] = []
        async with service_with(bench, store) as service:
            for _ in range(3 if bench.is_quick else 40):
                body = {"urls": bench.links(Kind.SHORT, LINKS)}
                started_at = time.perf_counter()
                async with service.client.post(f"{service.url}/batches", json=body) as response:
                    batch = await response.json()
                seconds.append(time.perf_counter() - started_at)
                if response.status != 202:
                    raise RuntimeError(f"not accepted: {batch}")
                async with service.client.delete(service.url + batch["status_url"]):
                    pass
                await _until_ended(service, batch["status_url"])
        rows += latency_rows(f"POST /batches with {LINKS} links, {store}", Latencies(seconds=seconds, refused=0), 100)
    return rows


async def archives(bench: Bench) -> list[Row]:
    """Throughput of an archive of 200 tracks, compared with one file of the same size that nginx sends.

    The tracks are written by a fake converter, in an earlier run of the service: only their size matters here.
    """
    data_dir = bench.folder / f"archives-{time.monotonic_ns()}" / "data"
    async with running_service(data_dir) as filled:
        filled.converter.size_bytes = ARCHIVED_BYTES
        batch = await ended(filled, await created(filled, [video(n) for n in range(20 if bench.is_quick else 200)]))
    ratios: list[float] = []
    costs: list[float] = []
    async with bench.service("archives", DATA_DIR=str(data_dir)) as service:
        url = service.url + batch["archive_url"]
        whole = data_dir / "tracks" / "whole.zip"
        await _fetched(url, whole)
        async with static_nginx(bench, whole.parent) as static:
            # Before its first archive, each track is compared with its checksum; so one is fetched without measuring.
            for _ in range(bench.pair_count):
                assert service.process is not None
                before = own_cpu_seconds(service.process.pid)
                mine = await _seconds_of(lambda: _fetched(url, Path("/dev/null")))
                costs.append(own_cpu_seconds(service.process.pid) - before)
                theirs = await _seconds_of(lambda: _fetched(f"{static}/{whole.name}", Path("/dev/null")))
                ratios.append(theirs / mine)
        gigabytes = whole.stat().st_size / 1e9
    what = f"archive of {gigabytes:.1f} GB: throughput, ours / nginx static"
    note = f"{1000 * median(costs) / gigabytes:.0f} ms of the event loop's CPU time for 1 GB"
    return [Row(what=what, value=median(ratios), goal=0.8, at_least=True, note=note)]


async def _until_ended(service: ServiceProcess, path: str) -> None:
    async def has_ended() -> bool:
        return (await service.get(path))[1]["completed_at"] is not None

    await until(has_ended, "the cancelled batch has ended", poll_seconds=0.1)


async def _seconds_of(work: Callable[[], Awaitable[None]]) -> float:
    started_at = time.perf_counter()
    await work()
    return time.perf_counter() - started_at


async def _fetched(url: str, path: Path) -> None:
    """Download with curl, which takes little CPU time. Raises RuntimeError if the response is not 200."""
    process = await asyncio.create_subprocess_exec("curl", "-fsS", "-o", path, url)
    if await process.wait() != 0:
        raise RuntimeError(f"no {url}")
