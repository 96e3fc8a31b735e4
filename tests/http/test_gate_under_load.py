"""The limits when more is asked than there is: on a clock of the test's own, and in races over sockets (L02 to L05)."""

import asyncio
import random
from collections import Counter
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tests.http.stand import stand
from ytmp3.errors import RateLimited
from ytmp3.middleware import Gate, Keys, Limits

RATE, BURST = 100, 200


class Rig:
    """A gate on a clock that only the test moves."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 0.0
        limits = Limits(rate_per_second=RATE, burst=BURST, client_rate_per_second=0, client_burst=0)
        chance = random.Random(seed).random
        gate = Gate(keys=Keys(None), limits=limits, trusted_proxies=(), chance=chance, clock=lambda: self.now)
        self._handler = gate.guard(self._answer)
        self._request = make_mocked_request("GET", "/stats")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def ask(self) -> int:
        """Return 0 if admitted, else the Retry-After."""
        try:
            await self._handler(self._request)
        except RateLimited as refusal:
            return refusal.retry_after_seconds or 0
        return 0


async def test_ten_times_the_rate_for_half_a_minute_admits_the_rate() -> None:
    rig = Rig()
    admitted = 0
    for step in range(30_000):
        rig.now = step / 1000
        admitted += not await rig.ask()
    assert 0.95 * RATE * 30 <= admitted <= BURST + RATE * 30


async def test_whoever_waits_as_told_is_admitted_and_a_thousand_do_not_come_back_as_one_wave() -> None:
    rig = Rig()
    while not await rig.ask():
        pass
    waits = [await rig.ask() for _ in range(1000)]
    assert min(waits) >= 1
    back = Counter(waits)
    assert max(back.values()) <= 2 * RATE, back
    refused = 0
    for second in sorted(back):
        rig.now = float(second)
        refused += sum([bool(await rig.ask()) for _ in range(back[second])])
    assert refused <= 10, (refused, back)


async def test_one_that_was_refused_alone_waits_a_moment() -> None:
    rig = Rig()
    while not await rig.ask():
        pass
    assert await rig.ask() <= 2


async def test_in_races_of_1000_posts_and_cancellations_the_queue_is_never_over_its_capacity(tmp_path: Path) -> None:
    capacity, workers = 50, 2
    async with stand(tmp_path / "data", WORKER_POOL_SIZE=str(workers), JOB_QUEUE_CAPACITY=str(capacity)) as service:
        never = asyncio.Event()
        statuses: Counter[int] = Counter()
        gate = asyncio.Semaphore(100)

        async def one(number: int) -> None:
            service.converter.held[f"video{number:06d}"] = never
            link = {"url": f"https://youtu.be/video{number:06d}"}
            async with gate, service.client.post(f"{service.url}/extract", json=link) as response:
                statuses[response.status] += 1
                job = await response.json()
            assert service.service.pool.queue.qsize() <= capacity
            if response.status != 202:
                assert (response.status, job["code"]) == (503, "queue_full")
                assert int(response.headers["Retry-After"]) >= 1
            elif number % 2:
                async with service.client.delete(f"{service.url}/jobs/{job['job_id']}") as response:
                    assert response.status == 200

        await asyncio.gather(*(one(number) for number in range(1000)))
        counts = await service.service.store.counts()
        assert counts.pending + counts.processing <= capacity + workers
        # Every slot that was given back can be had again.
        for number in range(1000, 1000 + capacity + workers):
            service.converter.held[f"video{number:06d}"] = never
            link = {"url": f"https://youtu.be/video{number:06d}"}
            async with service.client.post(f"{service.url}/extract", json=link) as response:
                statuses[response.status] += 1
        assert service.service.pool.queue.qsize() == capacity
        assert set(statuses) == {202, 503}
        never.set()
