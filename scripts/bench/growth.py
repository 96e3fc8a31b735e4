"""Growth: the cost of requests, claims and the start with a full queue or many ended records, compared with none."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from scripts.bench.measure import median
from scripts.bench.services import Bench, Row, asking, held_service, own_cpu_seconds, posting, submit_all
from tests.fake_youtube import Kind
from tests.stand.service_process import ServiceProcess, egress, service_process
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import ClientId, InstanceId, VideoId, new_conversion_id, new_job_id
from ytmp3.core.job import Conversion
from ytmp3.core.recipe import DEFAULT_RECIPE, conversion_key
from ytmp3.jobstore import Submission
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite import SqliteJobStore


async def growth(bench: Bench) -> list[Row]:
    """Measure with 1,000 queued conversions and with 100,000 ended records: no cost should grow with their number."""
    requests = 30 if bench.is_quick else 200
    return (
        await growth_with_queue(bench, requests)
        + await growth_with_records(bench, requests)
        + await growth_of_claims(bench, requests)
    )


async def growth_with_queue(bench: Bench, requests: int) -> list[Row]:
    pairs = []
    for _ in range(bench.pair_count):
        async with held_service(bench, "sqlite") as service:
            _, job = await service.post(bench.links(Kind.SHORT, 1)[0])
            empty = await cost_of_requests(bench, service, job["status_url"], requests)
            await submit_all(service, bench.links(Kind.SHORT, 1000))
            pairs.append((empty, await cost_of_requests(bench, service, job["status_url"], requests)))
    return grown("1,000 queued", ("CPU of a status", "CPU of a submit"), pairs)


async def growth_with_records(bench: Bench, requests: int) -> list[Row]:
    counts = (0, ended(bench))
    filled = {count: bench.folder / f"records-{count}" for count in counts}
    for count, folder in filled.items():
        await fill(folder, count)
    pairs = [
        [await cost_with_records(bench, filled[count], requests) for count in counts] for _ in range(bench.pair_count)
    ]
    return grown(f"{counts[1]:,} ended records", ("CPU of a status", "CPU of a submit", "start"), pairs)


def grown(what: str, names: Sequence[str], pairs: Sequence[Sequence[Sequence[float]]]) -> list[Row]:
    """Return a row for each name. A pair holds the costs without and with the records, in the order of the names."""
    return [
        Row(
            what=f"{name}, {what} / none",
            value=median([full[which] / empty[which] for empty, full in pairs]),
            goal=1.5,
            at_least=False,
        )
        for which, name in enumerate(names)
    ]


async def cost_with_records(bench: Bench, filled: Path, requests: int) -> tuple[float, float, float]:
    """Return the CPU seconds of status requests and of submits, and the seconds to start, on a copy of a store."""
    folder = bench.folder / f"records-{time.monotonic_ns()}"
    await asyncio.to_thread(shutil.copytree, filled, folder / "data")
    settings = egress(bench.youtube) | {"LOG_LEVEL": "warning", "WORKER_POOL_SIZE": "1"}
    started_at = time.perf_counter()
    async with service_process(folder, **settings) as service:
        start = time.perf_counter() - started_at
        _, held = await service.post(bench.links(Kind.STALLED, 1)[0])
        await service.until(held["job_id"], "downloading", "converting")
        return *await cost_of_requests(bench, service, held["status_url"], requests), start


async def growth_of_claims(bench: Bench, claims: int) -> list[Row]:
    """Measure a worker's claim at the store itself, as CPU time of this process with the store's thread."""
    names = {"1,000 queued": (1000, 0), f"{ended(bench):,} ended records": (0, ended(bench))}
    rows = []
    for name, (queued, records) in names.items():
        ratios = []
        for _ in range(bench.pair_count):
            none = await cost_of_claims(bench, claims, queued=0, records=0)
            ratios.append(await cost_of_claims(bench, claims, queued=queued, records=records) / none)
        rows.append(Row(what=f"CPU of a claim, {name} / none", value=median(ratios), goal=1.5, at_least=False))
    return rows


async def cost_of_claims(bench: Bench, claims: int, *, queued: int, records: int) -> float:
    """Return the CPU seconds of `claims` claims, one after the other."""
    folder = bench.folder / f"claims-{time.monotonic_ns()}"
    if records:
        await asyncio.to_thread(shutil.copytree, bench.folder / f"records-{records}", folder)
    async with opened_store(folder) as store:
        leases = [(await submitted(store, number)).lease for number in range(queued + claims)]
        before = time.process_time()
        for lease in leases[:claims]:
            await store.claim(lease)
        return time.process_time() - before


def ended(bench: Bench) -> int:
    return 2_000 if bench.is_quick else 100_000


@asynccontextmanager
async def opened_store(data_dir: Path) -> AsyncIterator[SqliteJobStore]:
    data_dir.mkdir(parents=True, exist_ok=True)
    policy = Policy(lease_seconds=30, retention_seconds=86_400, crash_limit=3)
    store = SqliteJobStore(data_dir / "ytmp3.sqlite3", policy, InstanceId("bench"))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def submitted(store: SqliteJobStore, number: int) -> Conversion:
    """Submit a new conversion to a store."""
    identifier = VideoId(f"{number:011d}")
    key = conversion_key(identifier, DEFAULT_RECIPE)
    submission = Submission(
        job_id=new_job_id(key, os.urandom(16)),
        conversion_id=new_conversion_id(key, os.urandom(16)),
        video_id=identifier,
        recipe=DEFAULT_RECIPE,
        client=ClientId("addr:192.0.2.1"),
    )
    answer = await store.submit(submission, may_create=True)
    assert answer is not None
    return answer.ticket.conversion


async def fill(data_dir: Path, count: int) -> None:
    """Put `count` ended conversions into a store."""
    async with opened_store(data_dir) as store:

        async def one(number: int) -> None:
            claimed = await store.claim((await submitted(store, 10_000_000 + number)).lease)
            await store.fail(claimed.lease, FailureCode.PRIVATE)

        for first in range(0, count, 500):
            await asyncio.gather(*(one(number) for number in range(first, min(first + 500, count))))


async def cost_of_requests(bench: Bench, service: ServiceProcess, path: str, requests: int) -> tuple[float, float]:
    """Return the CPU seconds of the server process for `requests` status requests and for as many submits."""

    async def cost(ask: Callable[[int], Awaitable[int]]) -> float:
        before = own_cpu_seconds(service.pid)
        for number in range(requests):
            await ask(number)
        return own_cpu_seconds(service.pid) - before + 0.01

    return await cost(asking(service, path)), await cost(posting(service, bench.links(Kind.SHORT, requests)))
