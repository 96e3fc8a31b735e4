"""Failures injected into a running service or cluster, and what must hold afterwards.

`make test` runs each once and small, `scripts/soak.py` many times at full size. Each function returns the figures of
its round, and raises AssertionError if a guarantee of the service is broken.
"""

import asyncio
import hashlib
import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.cluster import Cluster
from tests.stand.processes import descendants, is_running, is_warm_solver
from tests.stand.service_process import JOB_SECONDS, ServiceProcess, egress, service_process
from tests.stand.waiting import PATIENCE_SECONDS, until

CLIENTS_AT_ONCE: Final = 20


async def until_nothing_is_left(service: ServiceProcess, data_dir: Path) -> None:
    """Return once no process and no temporary file of any conversion is left; check the log for bugs.

    The zygote stays, and the solver's warm processes.
    """
    (instance,) = (data_dir / "scratch").iterdir()
    await until(
        lambda: len([pid for pid in descendants(service.pid) if not is_warm_solver(pid)]) <= 1,
        "no process of a conversion is left",
    )
    await until(
        lambda: {path.name for path in instance.iterdir()} <= {".lock", "tools"}, "no file of a conversion is left"
    )
    assert "Traceback" not in service.log()


async def kill_and_restart(youtube: Spawned, folder: Path, *, first_number: int, jobs_count: int = 120) -> None:
    """kill -9 a service with 20 running and many queued jobs: after a restart all end, and no process is left."""
    async with service_process(folder, **egress(youtube)) as service:
        links = [watch_url(video_id(Kind.SHORT, first_number + n)) for n in range(jobs_count)]
        jobs = [job for _, job in await asyncio.gather(*(service.post(link) for link in links))]
        await service.until_event("conversion done")
        tools = descendants(service.pid)
        await service.stop(signal.SIGKILL)
        await until(lambda: not any(map(is_running, tools)), "the tools of the killed service have ended")
        await service.start()
        for job in jobs:
            ended = await service.until(job["job_id"])
            assert ended["status"] == "completed", ended
            assert hashlib.sha256(await service.download(ended)).hexdigest() == ended["file"]["sha256"]
        await until_nothing_is_left(service, folder / "data")
        assert await service.stop() == 0


async def submit(cluster: Cluster, client: ClientSession, link: str) -> dict[str, Any]:
    """POST a link through nginx, expecting it to be accepted."""
    status, job = await ask(client, "POST", f"{cluster.url}/extract", json={"url": link})
    assert status in {200, 202}, job
    return job


async def ask(client: ClientSession, method: str, url: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON body of a response; retry as `ask_for_bytes` does."""
    status, body = await ask_for_bytes(client, method, url, **options)
    return status, dict(json.loads(body))


async def ask_for_bytes(client: ClientSession, method: str, url: str, **options: Any) -> tuple[int, bytes]:
    """Return the status and the body of a response.

    A request waits for Redis for at most 250 ms, which a busy machine may exceed. The response `store_unavailable` then
    tells clients to retry, and so does this one. Any other response is returned.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with client.request(method, url, **options) as response:
                body = await response.read()
                if response.status != 503 or json.loads(body)["code"] != "store_unavailable":
                    return response.status, body
                await asyncio.sleep(int(response.headers["Retry-After"]))


async def all_are_completed(
    service: ServiceProcess, jobs: Sequence[dict[str, Any]], *, seconds: float = JOB_SECONDS
) -> list[dict[str, Any]]:
    """Follow jobs at one instance until all are completed, `seconds` at most for each."""
    ended = [await service.until(job["job_id"], seconds=seconds) for job in jobs]
    assert [job for job in ended if job["status"] != "completed"] == []
    return ended


async def every_file_is_whole(cluster: Cluster, service: ServiceProcess, jobs: Sequence[dict[str, Any]]) -> None:
    """Download each job's track through nginx: it is what the job's record says."""
    for job in jobs:
        status, body = await ask_for_bytes(service.client, "GET", cluster.url + job["download_url"])
        assert status == 200, body
        assert hashlib.sha256(body).hexdigest() == job["file"]["sha256"]


def times_finished(cluster: Cluster) -> Counter[str]:
    """Count how often each conversion was finished, by the logs of all instances."""
    return Counter(
        event["conversion_id"] for service in cluster.instances for event in service.events("conversion done")
    )


def _adopted(services: Sequence[ServiceProcess]) -> int:
    """Count the conversions that these instances have adopted from others, by their logs."""
    return sum(event["conversions"] for service in services for event in service.events("conversions adopted"))


async def kill_one(cluster: Cluster, *, jobs: int, first_number: int) -> dict[str, float]:
    """kill -9 one of three instances while it converts: no accepted job is lost, and none is finished twice."""
    victim, *others = cluster.instances
    client = others[0].client
    links = [watch_url(video_id(Kind.SHORT, first_number + number)) for number in range(jobs)]
    accepted = await asyncio.gather(*(submit(cluster, client, link) for link in links))
    # A slow download keeps the victim at work until it is killed, however soon it is through with its share.
    slow = await victim.submit(watch_url(video_id(Kind.SLOW, first_number)))
    await victim.until(slow["job_id"], "downloading")
    tools = descendants(victim.pid)
    adopted_before = _adopted(others)
    killed_at = time.monotonic()
    await victim.stop(signal.SIGKILL)
    ended = await all_are_completed(others[0], [*accepted, slow])
    seconds = time.monotonic() - killed_at
    assert max(times_finished(cluster).values()) == 1
    await every_file_is_whole(cluster, others[0], ended)
    await until(lambda: not any(map(is_running, tools)), "the tools of the killed instance have ended")
    adopted = _adopted(others) - adopted_before
    assert adopted > 0
    await victim.start()
    return {"jobs": jobs, "conversions_adopted": adopted, "seconds_to_all_done": round(seconds, 1)}


async def freeze_one(cluster: Cluster, *, frozen_seconds: float, first_number: int) -> dict[str, float]:
    """SIGSTOP an instance that converts: another one finishes, and the frozen one writes nothing after SIGCONT."""
    frozen, *others = cluster.instances
    zygote = {await frozen.only_child()}
    job = await frozen.submit(watch_url(video_id(Kind.SLOW, first_number)))
    await frozen.until(job["job_id"], "downloading")
    frozen.send_signal(signal.SIGSTOP)
    try:
        stopped_at = time.monotonic()
        (ended,) = await all_are_completed(others[0], [job])
        taken_over_seconds = time.monotonic() - stopped_at
        await asyncio.sleep(max(0.0, frozen_seconds - taken_over_seconds))
    finally:
        frozen.send_signal(signal.SIGCONT)

    async def is_idle() -> bool:
        return descendants(frozen.pid) <= zygote and not (await frozen.get("/stats"))[1]["workers"]["active"]

    await until(is_idle, "the instance has given up the conversion that it lost")
    assert frozen.events("conversion done") == []
    _, told = await ask(frozen.client, "GET", f"{frozen.url}/status/{job['job_id']}")
    assert told["file"]["sha256"] == ended["file"]["sha256"]
    await every_file_is_whole(cluster, others[0], [ended])
    return {"taken_over_and_done_seconds": round(taken_over_seconds, 1)}


async def restart_redis(cluster: Cluster, *, jobs: int, first_number: int) -> dict[str, float]:
    """kill -9 Redis under load and restart it with its append-only file: no accepted job is lost."""
    service = cluster.instances[0]
    accepted: list[dict[str, Any]] = []
    refusals: list[dict[str, Any]] = []

    async def post(number: int) -> None:
        link = watch_url(video_id(Kind.SHORT, first_number + number))
        async with service.client.post(f"{cluster.url}/extract", json={"url": link}) as response:
            body = await response.json()
            if response.status == 202:
                accepted.append(body)
            else:
                assert response.status == 503, body
                assert int(response.headers["Retry-After"]) >= 1
                refusals.append(body)

    async def load() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(jobs):
                tasks.create_task(post(number))
                await asyncio.sleep(0.02)

    work = asyncio.create_task(load())
    await until(lambda: len(accepted) >= jobs // 3, "a third of the jobs is accepted", poll_seconds=0.01)
    cluster.valkey.stop()
    while not refusals:
        await post(jobs)
    await asyncio.to_thread(cluster.valkey.start)
    await work
    await all_are_completed(service, accepted)
    return {"accepted": len(accepted), "refused": len(refusals)}


async def freeze_redis(cluster: Cluster, *, seconds: float) -> dict[str, float]:
    """SIGSTOP Redis: each POST is refused while it is frozen, live probes are answered; afterwards all is well."""
    service = cluster.instances[0]
    link = watch_url(video_id(Kind.SHORT, 9999))
    job = await submit(cluster, service.client, link)
    await all_are_completed(service, [job])
    waits: list[float] = []
    cluster.valkey.freeze()
    try:
        freeze_ends_at = time.monotonic() + seconds
        while time.monotonic() < freeze_ends_at:
            started_at = time.monotonic()
            # That it is answered at all, with Redis frozen until the loop ends, shows that nothing waits for Redis.
            status, answer = await service.post(link)
            waits.append(time.monotonic() - started_at)
            assert (status, answer["code"]) == (503, "store_unavailable")
            assert (await service.get("/health/live"))[0] == 200
            await asyncio.sleep(0.05)
        await service.until_health(503)
    finally:
        cluster.valkey.thaw()
    await service.until_health(200)
    assert (await ask(service.client, "POST", f"{service.url}/extract", json={"url": link}))[0] == 200
    await all_are_completed(service, [job])
    return {"posts": len(waits), "p99_ms": round(1000 * sorted(waits)[int(len(waits) * 0.99)], 1)}


async def roll(cluster: Cluster, *, requests_between: int, first_number: int) -> dict[str, float]:
    """Restart all instances one after the other under load: no request fails, no download is cut, no job is lost.

    After each restart, and before the next, `requests_between` requests are answered.
    """
    done = asyncio.Event()
    answered = 0
    accepted: list[dict[str, Any]] = []
    async with ClientSession() as client:
        first = await submit(cluster, client, watch_url(video_id(Kind.CLIP, first_number)))
        (track,) = await all_are_completed(cluster.instances[0], [first])

        async def request(number: int) -> None:
            match number % 5:
                case 0:
                    link = watch_url(video_id(Kind.SHORT, first_number + number % 50))
                    accepted.append(await submit(cluster, client, link))
                case 1:
                    await every_file_is_whole(cluster, cluster.instances[0], [track])
                case _:
                    status, job = await ask(client, "GET", f"{cluster.url}/status/{track['job_id']}")
                    assert status == 200, job

        async def load(number: int) -> None:
            nonlocal answered
            while not done.is_set():
                await request(number)
                number += 1
                answered += 1
                await asyncio.sleep(0.1)

        async def until_answered(count: int) -> None:
            await until(lambda: answered >= count, "more requests are answered after the restart")

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(load(number))
            for service in cluster.instances:
                assert await service.stop(signal.SIGTERM) == 0
                await service.start()
                await until_answered(answered + requests_between)
            done.set()
        await all_are_completed(cluster.instances[0], accepted)
    return {"answered": answered, "jobs": len(accepted)}


async def read_your_writes(cluster: Cluster, *, pairs: int, first_number: int) -> dict[str, float]:
    """POST, then GET the job through nginx, which may ask another instance: never a 404."""
    client = cluster.instances[0].client
    links = [watch_url(video_id(Kind.SHORT, first_number + n)) for n in range(5)]
    await all_are_completed(cluster.instances[0], [await submit(cluster, client, link) for link in links])
    slots = asyncio.Semaphore(CLIENTS_AT_ONCE)
    statuses: Counter[int] = Counter()

    async def pair(number: int) -> None:
        async with slots:
            job = await submit(cluster, client, links[number % len(links)])
            status, _ = await ask(client, "GET", f"{cluster.url}/status/{job['job_id']}")
            statuses[status] += 1

    await asyncio.gather(*(pair(number) for number in range(pairs)))
    assert statuses == {200: pairs}
    return {"pairs": pairs}
