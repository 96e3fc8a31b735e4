"""The rows: each measures one promise and says what it should reach."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from scripts.bench.load import Latencies, closed_loop, open_loop
from scripts.bench.measure import Cost, median, p99, peak_pss_during, tree_cpu_seconds, tree_pss_mb
from scripts.bench.references import bare_handler, ffmpeg_alone, ytdlp_command
from scripts.cluster import Nginx, write_configuration
from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.fake_youtube.media import default_cache
from tests.process.served import Served, egress, served
from tests.valkey import Valkey, free_port
from ytmp3.errors import FailureCode
from ytmp3.job import Quality, conversion_key, new_id
from ytmp3.jobstore import Policy, Submission
from ytmp3.jobstore.sqlite import SqliteJobStore

POLL_SECONDS = 0.1


class Row(Struct, frozen=True, kw_only=True):
    """A measured figure beside its goal."""

    what: str
    value: float
    goal: float | None
    at_least: bool
    """Whether the value should be the goal or more; else the goal or less."""
    unit: str = ""
    note: str = ""

    @property
    def is_reached(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


class Bench(Struct, kw_only=True):
    """What every row needs. `scale` shrinks the batches of a quick run."""

    youtube: Spawned
    folder: Path
    is_quick: bool
    pair_count: int
    last_number: int = 0

    def links(self, kind: Kind, count: int) -> list[str]:
        """New links, so that nothing is answered from what was done before."""
        self.last_number += count
        return [watch_url(video_id(kind, (self.last_number - n) % 10_000)) for n in range(count)]

    @asynccontextmanager
    async def service(self, name: str, **settings: str) -> AsyncIterator[Served]:
        async with served(
            self.folder / f"{name}-{time.monotonic_ns()}", LOG_LEVEL="warning", **egress(self.youtube), **settings
        ) as running:
            yield running


def media(kind: Kind) -> Path:
    """The file that the fake YouTube sends."""
    return default_cache() / f"{kind.value}.webm"


async def convert_all(service: Served, links: Sequence[str]) -> float:
    """Submit at once, and return the seconds until all are completed."""
    started_at = time.perf_counter()
    answers = await asyncio.gather(*(service.post(link) for link in links))
    waiting = [job["job_id"] for _, job in answers]
    while waiting:
        job = await service.job(waiting[-1])
        if job["status"] == "completed":
            waiting.pop()
        elif job["status"] in {"failed", "cancelled"}:
            raise RuntimeError(f"a conversion ended {job['status']}: {job['error']}")
        else:
            await asyncio.sleep(POLL_SECONDS)
    return time.perf_counter() - started_at


async def conversions(bench: Bench, kind: Kind, count: int, goals: tuple[float, float, float]) -> list[Row]:
    """CPU, wall time and memory of a batch, against ffmpeg alone and against the yt-dlp command."""
    name = f"{count} {kind.value}s"
    target = bench.folder / "reference"
    target.mkdir(exist_ok=True)
    async with bench.service("batch") as service:
        await convert_all(service, bench.links(kind, 2))
        idle = tree_pss_mb(service.pid)

        async def ours(_: int) -> Cost:
            before = tree_cpu_seconds(service.pid)
            wall, peak = await peak_pss_during(service.pid, convert_all(service, bench.links(kind, count)))
            return Cost(cpu_seconds=tree_cpu_seconds(service.pid) - before, wall_seconds=wall, peak_pss_mb=peak)

        async def alone(_: int) -> Cost:
            return await ffmpeg_alone(media(kind), target, times=count, at_once=os.cpu_count() or 1)

        async def command(_: int) -> Cost:
            return await ytdlp_command(bench.youtube, bench.links(kind, count), bench.folder / "ytdlp")

        turns = [(await ours(number), await alone(number), await command(number)) for number in range(bench.pair_count)]
    against_ffmpeg = [(mine, theirs) for mine, theirs, _ in turns]
    against_ytdlp = [(mine, theirs) for mine, _, theirs in turns]
    of_ffmpeg, of_ytdlp, faster = goals
    costs = [mine for mine, _, _ in turns]
    cpu = median([cost.cpu_seconds for cost in costs]) / count
    per_minute = 60 * count / median([cost.wall_seconds for cost in costs])
    ytdlp_peak = median([pair[1].peak_pss_mb for pair in against_ytdlp])
    return [
        Row(
            what=f"{name}: ffmpeg's CPU alone / ours",
            value=median([theirs.cpu_seconds / mine.cpu_seconds for mine, theirs in against_ffmpeg]),
            goal=of_ffmpeg,
            at_least=True,
            note=f"{cpu:.2f} CPU s a conversion, {per_minute:.0f} conversions/min",
        ),
        Row(
            what=f"{name}: yt-dlp command's CPU / ours",
            value=median([theirs.cpu_seconds / mine.cpu_seconds for mine, theirs in against_ytdlp]),
            goal=of_ytdlp,
            at_least=True,
        ),
        Row(
            what=f"{name}: yt-dlp command's wall time / ours",
            value=median([theirs.wall_seconds / mine.wall_seconds for mine, theirs in against_ytdlp]),
            goal=faster,
            at_least=True,
        ),
        Row(
            what=f"{name}: peak memory, whole tree (PSS)",
            value=max(cost.peak_pss_mb for cost in costs),
            goal=350,
            at_least=False,
            unit="MB",
            note=f"yt-dlp commands {ytdlp_peak:.0f} MB; idle {idle:.0f} MB",
        ),
    ]


async def clips(bench: Bench) -> list[Row]:
    return await conversions(bench, Kind.CLIP, 8 if bench.is_quick else 40, (0.60, 2.5, 2.0))


async def songs(bench: Bench) -> list[Row]:
    return await conversions(bench, Kind.SONG, 2 if bench.is_quick else 20, (0.90, 1.3, 1.0))


async def one_clip(bench: Bench) -> list[Row]:
    """An idle server: from the POST to a track that can be fetched, over ffmpeg alone on the same file."""
    over = []
    async with bench.service("one") as service:
        await convert_all(service, bench.links(Kind.CLIP, 1))
        for _ in range(bench.pair_count):
            started_at = time.perf_counter()
            _, job = await service.post(bench.links(Kind.CLIP, 1)[0])
            while (await service.job(job["job_id"]))["status"] != "completed":
                await asyncio.sleep(0.005)
            mine = time.perf_counter() - started_at
            theirs = await ffmpeg_alone(media(Kind.CLIP), bench.folder, times=1, at_once=1)
            over.append(mine - theirs.wall_seconds)
    return [
        Row(what="one clip, idle server: over ffmpeg alone", value=median(over), goal=0.5, at_least=False, unit="s")
    ]


async def start(bench: Bench) -> list[Row]:
    """From the start of the process to the first 200 of /health, and memory at rest."""
    seconds, memory = [], []
    for _ in range(bench.pair_count):
        started_at = time.perf_counter()
        async with bench.service("start") as service:
            seconds.append(time.perf_counter() - started_at)
            await asyncio.sleep(1.0)
            memory.append(tree_pss_mb(service.pid))
    return [
        Row(what="start to first healthy answer", value=median(seconds), goal=2.0, at_least=False, unit="s"),
        Row(what="idle memory (PSS)", value=median(memory), goal=120, at_least=False, unit="MB"),
    ]


async def status_peak(bench: Bench) -> list[Row]:
    """Requests a second through all middlewares, against a bare handler with an answer of the same size."""
    ratios = []
    requests = 50 if bench.is_quick else 300
    async with bench.service("peak") as service, bare_handler() as bare:
        _, job = await service.post(bench.links(Kind.SHORT, 1)[0])
        await service.until(job["job_id"])
        for url, path in ((bare, "/status/x"), (service.url, job["status_url"])):
            await closed_loop(url, path, connections=20, requests=50)
        for _ in range(bench.pair_count):
            mine = await closed_loop(service.url, job["status_url"], connections=20, requests=requests)
            theirs = await closed_loop(bare, "/status/x", connections=20, requests=requests)
            ratios.append(mine / theirs)
    return [Row(what="GET /status: requests/s, ours / bare aiohttp", value=median(ratios), goal=0.5, at_least=True)]


def asking(service: Served, path: str) -> Callable[[int], Awaitable[int]]:
    async def ask(_: int) -> int:
        async with service.client.get(service.url + path) as response:
            await response.read()
            return response.status

    return ask


def posting(service: Served, links: Sequence[str]) -> Callable[[int], Awaitable[int]]:
    async def ask(number: int) -> int:
        async with service.client.post(f"{service.url}/extract", json={"url": links[number]}) as response:
            await response.read()
            return response.status

    return ask


def latency_rows(what: str, found: Latencies, goal_ms: float) -> list[Row]:
    middle, high = 1000 * median(found.seconds), 1000 * p99(found.seconds)
    note = f"p50 {middle:.1f} ms" + (f", {found.refused} refused" if found.refused else "")
    return [Row(what=f"{what}: p99", value=high, goal=goal_ms, at_least=False, unit="ms", note=note)]


async def posts_at_rest(bench: Bench) -> list[Row]:
    """POST at 100/s without conversions: one worker is held by a stalled download, the rest waits."""
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


@asynccontextmanager
async def held_service(bench: Bench, store: str) -> AsyncIterator[Served]:
    """A service whose only worker is busy with a download that does not end."""
    settings = {"WORKER_POOL_SIZE": "1", "DRAIN_SECONDS": "0", "JOB_QUEUE_CAPACITY": "100000"}
    valkey: Valkey | None = None
    if store == "redis":
        folder = bench.folder / f"valkey-{time.monotonic_ns()}"
        folder.mkdir()
        valkey = Valkey(folder, settings={"appendonly": "yes"})
        await asyncio.to_thread(valkey.start)
        settings["REDIS_ADDR"] = valkey.address
    try:
        async with bench.service(f"held-{store}", **settings) as service:
            _, job = await service.post(bench.links(Kind.STALLED, 1)[0])
            await service.until(job["job_id"], "downloading", "converting")
            yield service
    finally:
        if valkey is not None:
            valkey.stop()


async def under_load(bench: Bench) -> list[Row]:
    """Everything at once: 20 songs convert while requests arrive at a constant rate."""
    seconds = 3.0 if bench.is_quick else 10.0
    rows = []
    for queued in (0, 1000):
        async with bench.service("load") as service:
            _, job = await service.post(bench.links(Kind.SHORT, 1)[0])
            await service.until(job["job_id"])
            await asyncio.gather(*(service.post(link) for link in bench.links(Kind.SONG, 20)))
            await asyncio.gather(*(service.post(link) for link in bench.links(Kind.SONG, queued)))
            note = f"while 20 songs convert, {queued} queued"
            found = await open_loop(asking(service, job["status_url"]), rate=100, seconds=seconds)
            rows += latency_rows(f"GET /status at 100/s {note}", found, 50)
            found = await open_loop(asking(service, "/health"), rate=100, seconds=seconds)
            rows += latency_rows(f"GET /health at 100/s {note}", found, 10)
            if queued == 0:
                links = bench.links(Kind.SHORT, int(50 * seconds))
                found = await open_loop(posting(service, links), rate=50, seconds=seconds)
                rows += latency_rows(f"POST /extract at 50/s {note}", found, 50)
                rows.append(await loop_lag(service))
    return rows


async def loop_lag(service: Served) -> Row:
    """The event loop's own lateness, from its histogram: the upper edge of the bucket with the 99th percentile."""
    async with service.client.get(f"{service.url}/metrics") as response:
        text = await response.text()
    buckets = [
        (float(line.split('le="')[1].split('"')[0]), float(line.rsplit(" ", 1)[1]))
        for line in text.splitlines()
        if line.startswith("ytmp3_event_loop_lag_seconds_bucket")
    ]
    edge = next(edge for edge, count in buckets if count >= 0.99 * buckets[-1][1])
    return Row(
        what="event loop lag under that load: p99 at most", value=1000 * edge, goal=20, at_least=False, unit="ms"
    )


async def downloads(bench: Bench) -> list[Row]:
    """A track from the service itself, against nginx's own static file."""
    ratios = []
    folder = bench.folder / f"nginx-{time.monotonic_ns()}"
    async with bench.service("download") as service:
        _, job = await service.post(bench.links(Kind.SONG, 1)[0])
        job = await service.until(job["job_id"])
        tracks = Path(service.settings["DATA_DIR"]) / "tracks"
        nginx = Nginx(folder, free_port())
        write_configuration(folder, port=nginx.port, upstreams=["127.0.0.1:1"], tracks=tracks, is_limited=False)
        site = folder / "site.conf"
        site.write_text(site.read_text().replace("    internal;\n    alias", "    alias"))
        await nginx.start()
        (file,) = tracks.iterdir()
        try:
            for _ in range(bench.pair_count):
                seconds = []
                for url in (service.url + job["download_url"], f"{nginx.url}/protected-tracks/{file.name}"):
                    started_at = time.perf_counter()
                    for _ in range(20):
                        async with service.client.get(url) as response:
                            if response.status != 200:
                                raise RuntimeError("no track")
                            await response.read()
                    seconds.append(time.perf_counter() - started_at)
                ratios.append(seconds[1] / seconds[0])
        finally:
            await nginx.stop()
    return [Row(what="download throughput, ours / nginx static", value=median(ratios), goal=None, at_least=True)]


async def redis_commands(bench: Bench) -> list[Row]:
    """Commands that a job costs at Redis from its POST to its end, renewals apart, and round trips of a poll."""
    count = 5 if bench.is_quick else 20
    folder = bench.folder / f"valkey-{time.monotonic_ns()}"
    folder.mkdir()
    valkey = Valkey(folder, settings={"appendonly": "yes"})
    await asyncio.to_thread(valkey.start)
    try:
        async with bench.service("commands", REDIS_ADDR=valkey.address) as service:
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
    finally:
        valkey.stop()
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


async def settled(service: Served) -> None:
    """Wait until nothing runs, without asking the store."""
    while True:
        async with service.client.get(f"{service.url}/metrics") as response:
            text = await response.text()
        if "ytmp3_conversions_active 0.0" in text and "ytmp3_queue_length 0.0" in text:
            return
        await asyncio.sleep(POLL_SECONDS)


async def calls_during(valkey: Valkey, work: Awaitable[object]) -> float:
    """Count the commands that clients send (those inside scripts are not sent)."""
    client = valkey.client()

    def calls() -> float:
        statistics: dict[str, dict[str, float]] = client.info("commandstats")
        return sum(
            entry["calls"]
            for name, entry in statistics.items()
            if name.removeprefix("cmdstat_") in {"evalsha", "eval", "script|load"}
        )

    before = calls()
    await work
    after = calls()
    client.close()
    return after - before


async def growth(bench: Bench) -> list[Row]:
    """With 1,000 conversions queued, and with 100,000 ended records: status, submit, start must not grow."""
    requests = 30 if bench.is_quick else 200
    return await growth_with_queue(bench, requests) + await growth_with_records(bench, requests)


async def growth_with_queue(bench: Bench, requests: int) -> list[Row]:
    pairs = []
    for _ in range(bench.pair_count):
        async with held_service(bench, "sqlite") as service:
            _, job = await service.post(bench.links(Kind.SHORT, 1)[0])
            empty = await cost_of_requests(bench, service, job["status_url"], requests)
            for _ in range(10):
                await asyncio.gather(*(service.post(link) for link in bench.links(Kind.SHORT, 100)))
            pairs.append((empty, await cost_of_requests(bench, service, job["status_url"], requests)))
    return [
        Row(
            what=f"{name}, 1,000 queued / none",
            value=median([full[which] / empty[which] for empty, full in pairs]),
            goal=1.5,
            at_least=False,
        )
        for which, name in enumerate(("CPU of a status", "CPU of a submit"))
    ]


async def growth_with_records(bench: Bench, requests: int) -> list[Row]:
    counts = (0, 2_000 if bench.is_quick else 100_000)
    filled = {count: bench.folder / f"records-{count}" for count in counts}
    for count, folder in filled.items():
        await fill(folder, count)
    pairs = [
        [await cost_with_records(bench, filled[count], requests) for count in counts] for _ in range(bench.pair_count)
    ]
    names = ("CPU of a status", "CPU of a submit", "start")
    return [
        Row(
            what=f"{name}, {counts[1]:,} ended records / none",
            value=median([full[which] / empty[which] for empty, full in pairs]),
            goal=1.5,
            at_least=False,
        )
        for which, name in enumerate(names)
    ]


async def cost_with_records(bench: Bench, filled: Path, requests: int) -> tuple[float, float, float]:
    """CPU seconds of status requests and of submits, and seconds to start, on a copy of a store."""
    folder = bench.folder / f"records-{time.monotonic_ns()}"
    await asyncio.to_thread(shutil.copytree, filled, folder / "data")
    settings = egress(bench.youtube) | {"LOG_LEVEL": "warning", "WORKER_POOL_SIZE": "1"}
    started_at = time.perf_counter()
    async with served(folder, **settings) as service:
        start = time.perf_counter() - started_at
        _, held = await service.post(bench.links(Kind.STALLED, 1)[0])
        await service.until(held["job_id"], "downloading", "converting")
        return *await cost_of_requests(bench, service, held["status_url"], requests), start


async def fill(data_dir: Path, count: int) -> None:
    """Put ended conversions into a store."""
    data_dir.mkdir(parents=True)
    policy = Policy(lease_seconds=30, retention_seconds=86_400, crash_limit=3)
    store = SqliteJobStore(data_dir / "ytmp3.sqlite3", policy, "bench")
    await store.open()

    async def one(number: int) -> None:
        identifier = f"{number:011d}"
        key = conversion_key(identifier, Quality.K192)
        submission = Submission(
            job_id=new_id(key, os.urandom(16)),
            conversion_id=new_id(key, os.urandom(16)),
            key=key,
            video_id=identifier,
            quality=Quality.K192,
            client="addr:192.0.2.1",
        )
        submitted = await store.submit(submission, may_create=True)
        assert submitted is not None
        claimed = await store.claim(submitted.ticket.conversion.lease)
        await store.fail(claimed.lease, FailureCode.PRIVATE)

    for first in range(0, count, 500):
        await asyncio.gather(*(one(number) for number in range(first, min(first + 500, count))))
    await store.close()


async def cost_of_requests(bench: Bench, service: Served, path: str, requests: int) -> tuple[float, float]:
    """CPU seconds of the server process for so many status requests, and for so many submits."""

    async def cost(ask: Callable[[int], Awaitable[int]]) -> float:
        before = own_cpu_seconds(service.pid)
        for number in range(requests):
            await ask(number)
        return own_cpu_seconds(service.pid) - before + 0.01

    return await cost(asking(service, path)), await cost(posting(service, bench.links(Kind.SHORT, requests)))


def own_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9


ROWS: dict[str, Callable[[Bench], Awaitable[list[Row]]]] = {
    "one_clip": one_clip,
    "start": start,
    "status_peak": status_peak,
    "posts_at_rest": posts_at_rest,
    "under_load": under_load,
    "downloads": downloads,
    "redis_commands": redis_commands,
    "growth": growth,
    "clips": clips,
    "songs": songs,
}
