"""The full queue, and each client's quota of unfinished conversions."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import until


def video(number: int) -> str:
    return f"video{number:06d}"


def link(number: int) -> dict[str, str]:
    return {"url": f"https://youtu.be/{video(number)}"}


async def test_a_full_queue_refuses_at_once_and_stores_nothing(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", WORKER_POOL_SIZE="1", JOB_QUEUE_CAPACITY="10") as service:
        holds = [service.converter.hold(video(number)) for number in range(11)]
        jobs = [await service.submit(video(0))]
        await until(lambda: service.parts.runs.active == 1, "the worker has taken the first conversion")
        jobs += [await service.submit(video(number)) for number in range(1, 11)]
        counts = await service.store.counts()
        await expect_problem(service, "POST", "/extract", 503, "queue_full", json=link(11))
        assert await service.store.counts() == counts
        joined = await service.submit(video(5))
        assert joined["deduplicated"] is True
        for hold in holds:
            hold.set()
        for job in (*jobs, joined):
            assert (await service.ended(job["job_id"]))["status"] == "completed"


async def test_a_client_at_its_quota_is_refused_and_another_is_not(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", CLIENT_MAX_JOBS="2", TRUSTED_PROXIES="127.0.0.0/8") as service:
        for number in range(4):
            service.converter.hold(video(number))
        await service.submit(video(0))
        await service.submit(video(1))
        await expect_problem(service, "POST", "/extract", 429, "client_quota", json=link(2))
        another = {"X-Forwarded-For": "192.0.2.9"}
        async with service.client.post(f"{service.url}/extract", json=link(3), headers=another) as response:
            assert response.status == 202


async def test_1000_racing_submissions_and_cancellations_never_overfill_the_queue(tmp_path: Path) -> None:
    capacity, workers = 50, 2
    settings = {"WORKER_POOL_SIZE": str(workers), "JOB_QUEUE_CAPACITY": str(capacity)}
    async with running_service(tmp_path / "data", **settings) as service:
        statuses: Counter[int] = Counter()
        at_once = asyncio.Semaphore(100)

        async def submit_and_perhaps_cancel(number: int) -> None:
            service.converter.hold(video(number))
            async with at_once, service.client.post(f"{service.url}/extract", json=link(number)) as response:
                statuses[response.status] += 1
                job = await response.json()
            assert service.parts.queue.qsize() <= capacity
            if response.status != 202:
                assert (response.status, job["code"]) == (503, "queue_full")
                assert int(response.headers["Retry-After"]) >= 1
            elif number % 2:
                async with service.client.delete(f"{service.url}/jobs/{job['job_id']}") as response:
                    assert response.status == 200

        await asyncio.gather(*(submit_and_perhaps_cancel(number) for number in range(1000)))
        # Of the 500 submissions that are not cancelled, only 52 find a place.
        assert set(statuses) == {202, 503}
        counts = await service.store.counts()
        assert counts.pending + counts.processing <= capacity + workers
        await until(lambda: _fill_up(service, capacity, workers), "every slot that was given back is taken again")


async def _fill_up(service: RunningService, capacity: int, workers: int) -> bool:
    """Submit one more video; tell whether queue and workers are full now."""
    number = 1000 + service.store.calls.count("submit")
    service.converter.hold(video(number))
    async with service.client.post(f"{service.url}/extract", json=link(number)) as response:
        assert response.status in {202, 503}
    assert service.parts.queue.qsize() <= capacity
    return service.parts.queue.qsize() == capacity and service.parts.runs.active == workers
