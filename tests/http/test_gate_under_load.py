"""The limits when more is asked than there is: on a clock of the test's own, and in races over sockets (L02 to L05)."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tests.http.stand import stand
from ytmp3.http.admission import Admission, RateLimits
from ytmp3.http.errors import RateLimited
from ytmp3.http.keys import Keys
from ytmp3.http.settings import RateLimitSettings

RATE, BURST = 100, 200


class Rig:
    """A gate on a clock that only the test moves."""

    def __init__(self, seed: int = 1, *, client_rate_per_second: float = 0, client_burst: int = 0) -> None:
        self.now = 0.0
        self.limits = limits = RateLimits(
            RateLimitSettings(
                requests_per_second=RATE,
                burst_size=BURST,
                client_requests_per_second=client_rate_per_second,
                client_burst_size=client_burst,
            )
        )
        chance = random.Random(seed).random
        gate = Admission(keys=Keys(None), limits=limits, trusted_proxies=(), chance=chance, clock=lambda: self.now)
        self._handler = gate.guard(self._answer)
        self._request = make_mocked_request("GET", "/stats")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def ask(self, peer: str = "192.0.2.1") -> int:
        """Return 0 if admitted, else the Retry-After."""
        try:
            await self._handler(self._request.clone(remote=peer))
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


@pytest.mark.parametrize(("rate", "burst"), [(20, 40), (5, 10), (1, 2)])
async def test_of_one_clients_many_requests_those_that_wait_as_told_are_admitted(rate: int, burst: int) -> None:
    rig = Rig(client_rate_per_second=rate, client_burst=burst)
    asked, refused = 0, 0
    for _ in range(20):
        while not await rig.ask():
            pass
        begun_at = rig.now
        back = Counter([await rig.ask() for _ in range(10 * rate)])
        for wait in sorted(back):
            rig.now = begun_at + wait
            refused += sum([bool(await rig.ask()) for _ in range(back[wait])])
        asked += 10 * rate
        rig.now += 100
    assert refused <= asked / 100, (refused, asked)


async def test_a_client_that_is_over_its_limit_takes_nothing_from_the_others() -> None:
    rig = Rig(client_rate_per_second=1, client_burst=10)
    statuses = [await rig.ask("192.0.2.1") for _ in range(1000)]
    assert statuses.count(0) == 10
    others = [await rig.ask(f"192.0.2.{2 + number % 100}") for number in range(BURST)]
    assert others.count(0) == BURST - 10


async def test_a_refusal_for_the_crowd_costs_the_client_nothing() -> None:
    rig = Rig(client_rate_per_second=0.01, client_burst=2)
    while not await rig.ask(f"192.0.{rig.limits.all.state('*:*', rig.now).remaining}.1"):
        pass
    for _ in range(20):
        assert await rig.ask("198.51.100.1")
    rig.now = 2.0
    assert [bool(await rig.ask("198.51.100.1")) for _ in range(3)] == [False, False, True]


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
            assert service.service.queue.qsize() <= capacity
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
        assert service.service.queue.qsize() == capacity
        assert set(statuses) == {202, 503}
        never.set()
