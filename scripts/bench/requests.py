"""Requests: the highest rate, latencies at rest and under load, downloads, and the commands that Redis gets."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

from scripts.bench.load import Latencies, closed_loop, open_loop
from scripts.bench.measure import median, p99
from scripts.bench.references import bare_handler
from scripts.bench.services import (
    POLL_SECONDS,
    Bench,
    Row,
    asking,
    convert_all,
    held_service,
    posting,
    running_valkey,
    service_with,
    submit_all,
)
from tests.fake_youtube import Kind
from tests.stand.nginx import Nginx, write_configuration
from tests.stand.ports import free_port
from tests.stand.service_process import ServiceProcess
from tests.stand.valkey import Valkey


async def status_peak(bench: Bench) -> list[Row]:
    """Requests per second through all middlewares, compared with a bare handler whose response has the same size."""
    ratios = []
    # Many short pairs: other work of the machine then disturbs few of them, or both sides of a pair alike.
    pair_count = bench.pair_count if bench.is_quick else 8 * bench.pair_count
    async with bench.service("peak") as service, bare_handler() as bare:
        _, job = await service.post(bench.links(Kind.SHORT, 1)[0])
        await service.until(job["job_id"])
        for url, path in ((bare, "/status/x"), (service.url, job["status_url"])):
            await closed_loop(url, path, connections=20, requests=50)
        for _ in range(pair_count):
            mine = await closed_loop(service.url, job["status_url"], connections=20, requests=50)
            theirs = await closed_loop(bare, "/status/x", connections=20, requests=50)
            ratios.append(mine / theirs)
    return [Row(what="GET /status: requests/s, ours / bare aiohttp", value=median(ratios), goal=0.5, at_least=True)]


def latency_rows(what: str, found: Latencies, goal_ms: float) -> list[Row]:
    middle, high = 1000 * median(found.seconds), 1000 * p99(found.seconds)
    note = f"p50 {middle:.1f} ms" + (f", {found.refused} refused" if found.refused else "")
    return [Row(what=f"{what}: p99", value=high, goal=goal_ms, at_least=False, unit="ms", note=note)]


async def posts_at_rest(bench: Bench) -> list[Row]:
    """Latencies of POST at 100/s while nothing is converted: the only worker is busy with a stalled download."""
    seconds = 2.0 if bench.is_quick else 9.0
    rows = []
    for store in ("sqlite", "redis"):
        async with held_service(bench, store) as service:
            found = await open_loop(
                posting(service, bench.links(Kind.SHORT, int(100 * seconds))), rate=100, seconds=seconds
            )
            rows += latency_rows(f"POST /extract, new links, 100/s at rest, {store}", found, 20)
            same = bench.links(Kind.SHORT, 1) * int(100 * seconds)
            found = await open_loop(posting(service, same), rate=100, seconds=seconds)
            rows += latency_rows(f"POST /extract, duplicates, 100/s at rest, {store}", found, 20)
    return rows


async def under_load(bench: Bench) -> list[Row]:
    """Latencies of requests at a constant rate while 20 songs convert."""
    rows = []
    async with bare_handler() as bare:
        for store in ("sqlite", "redis"):
            for queued in (0, 1000):
                rows += await under_load_of(bench, bare, store, queued)
    return rows


async def under_load_of(bench: Bench, bare: str, store: str, queued: int) -> list[Row]:
    """Measure the rows of one job store and one length of the queue."""
    seconds = 3.0 if bench.is_quick else 7.0
    note = f"while 20 songs convert, {queued} queued, {store}"
    async with service_with(bench, store) as service:
        _, job = await service.post(bench.links(Kind.SHORT, 1)[0])
        await service.until(job["job_id"])
        await submit_all(service, bench.links(Kind.SONG, 20 + queued))
        mine = await closed_loop(service.url, job["status_url"], connections=20, requests=100)
        theirs = await closed_loop(bare, "/status/x", connections=20, requests=100)
        what = f"GET /status {note}: requests/s, ours / bare aiohttp"
        rows = [Row(what=what, value=mine / theirs, goal=None, at_least=True)]
        found = await open_loop(asking(service, job["status_url"]), rate=100, seconds=seconds)
        rows += latency_rows(f"GET /status at 100/s {note}", found, 50)
        found = await open_loop(asking(service, "/health"), rate=100, seconds=seconds)
        rows += latency_rows(f"GET /health at 100/s {note}", found, 10)
        if queued == 0:
            links = bench.links(Kind.SHORT, int(50 * seconds))
            found = await open_loop(posting(service, links), rate=50, seconds=seconds)
            rows += latency_rows(f"POST /extract at 50/s {note}", found, 50)
            rows.append(await loop_lag(service, store))
    return rows


async def loop_lag(service: ServiceProcess, store: str) -> Row:
    """Measure the delay of the event loop: the upper edge of the histogram bucket that holds its 99th percentile."""
    async with service.client.get(f"{service.url}/metrics") as response:
        text = await response.text()
    buckets = [
        (float(line.split('le="')[1].split('"')[0]), float(line.rsplit(" ", 1)[1]))
        for line in text.splitlines()
        if line.startswith("ytmp3_event_loop_lag_seconds_bucket")
    ]
    edge = next(edge for edge, count in buckets if count >= 0.99 * buckets[-1][1])
    what = f"event loop lag under that load, {store}: p99 at most"
    return Row(what=what, value=1000 * edge, goal=20, at_least=False, unit="ms")


async def downloads(bench: Bench) -> list[Row]:
    """Throughput of a track sent by the service itself, compared with the same file sent by nginx."""
    ratios = []
    async with bench.service("download") as service:
        _, job = await service.post(bench.links(Kind.SONG, 1)[0])
        job = await service.until(job["job_id"])
        tracks = Path(service.settings["DATA_DIR"]) / "tracks"
        (file,) = tracks.iterdir()
        async with static_nginx(bench, tracks) as static:
            for _ in range(bench.pair_count):
                seconds = []
                for url in (service.url + job["download_url"], f"{static}/{file.name}"):
                    started_at = time.perf_counter()
                    for _ in range(20):
                        async with service.client.get(url) as response:
                            if response.status != 200:
                                raise RuntimeError("no track")
                            await response.read()
                    seconds.append(time.perf_counter() - started_at)
                ratios.append(seconds[1] / seconds[0])
    return [Row(what="download throughput, ours / nginx static", value=median(ratios), goal=None, at_least=True)]


@asynccontextmanager
async def static_nginx(bench: Bench, folder: Path) -> AsyncIterator[str]:
    """Run an nginx with the production files that sends the files of a folder to everybody; yield their base URL."""
    configuration = bench.folder / f"nginx-{time.monotonic_ns()}"
    nginx = Nginx(configuration, free_port())
    write_configuration(configuration, port=nginx.port, upstreams=["127.0.0.1:1"], tracks=folder, is_limited=False)
    site = configuration / "site.conf"
    site.write_text(site.read_text().replace("    internal;\n    alias", "    alias"))
    await nginx.start()
    try:
        yield f"{nginx.url}/protected-tracks"
    finally:
        await nginx.stop()


async def redis_commands(bench: Bench) -> list[Row]:
    """Commands that Redis gets for a job from its POST to its end, without renewals, and for a status request."""
    count = 5 if bench.is_quick else 20
    async with running_valkey(bench) as valkey, bench.service("commands", REDIS_ADDR=valkey.address) as service:
        await convert_all(service, bench.links(Kind.SHORT, 2))
        await asyncio.sleep(1.0)
        idle = await calls_during(valkey, asyncio.sleep(5.0)) / 5.0
        started_at = time.perf_counter()
        links = bench.links(Kind.SHORT, count)
        busy = await calls_during(valkey, asyncio.gather(*(service.post(link) for link in links)))
        jobs = [job["job_id"] for _, job in [await service.post(link) for link in links]]
        rest = await calls_during(valkey, settled(service))
        seconds = time.perf_counter() - started_at
        polled = await calls_during(valkey, asyncio.gather(*(service.job(job_id) for job_id in jobs * 5)))
    return [
        Row(
            what="Redis commands a job, POST to completed",
            value=max(0.0, busy + rest - idle * seconds) / count,
            goal=12,
            at_least=False,
            note="as clients send them; an idle instance's own polling subtracted",
        ),
        Row(
            what="Redis commands a status poll",
            value=polled / (count * 5),
            goal=None,
            at_least=False,
            note="the idle polling of that moment included",
        ),
    ]


async def settled(service: ServiceProcess) -> None:
    """Return once no conversion runs or is queued. The metrics that tell so cost no command of Redis."""
    while True:
        async with service.client.get(f"{service.url}/metrics") as response:
            text = await response.text()
        if "ytmp3_conversions_active 0.0" in text and "ytmp3_queue_length 0.0" in text:
            return
        await asyncio.sleep(POLL_SECONDS)


async def calls_during(valkey: Valkey, work: Awaitable[object]) -> float:
    """Count the commands that clients send during `work`; commands inside scripts are not sent by clients."""
    before = valkey.calls()
    await work
    made = valkey.calls() - before
    return sum(made[name] for name in ("evalsha", "eval", "script|load"))
