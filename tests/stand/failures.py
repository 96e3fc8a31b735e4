"""Rounds of failure over a cluster of three. `make test` runs each once, small; `scripts/soak.py` at full size.

Each returns the figures that the closing note wants, and raises AssertionError if a promise is broken.
"""

import asyncio
import contextlib
import hashlib
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.cluster import Cluster
from tests.stand.processes import descendants, is_running
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.waiting import until

ADOPTION_SECONDS = 40.0


async def until_nothing_is_left(service: ServiceProcess, data_dir: Path) -> None:
    """Return once no process but the zygote and no temporary file of any conversion is left; check the log for bugs."""
    (instance,) = (data_dir / "scratch").iterdir()
    await until(lambda: len(descendants(service.pid)) <= 1, "no process of a conversion is left")
    await until(
        lambda: {path.name for path in instance.iterdir()} <= {".lock", "tools"}, "no file of a conversion is left"
    )
    assert "Traceback" not in service.log()


async def kill_and_restart(youtube: Spawned, folder: Path, *, first_number: int) -> None:
    """kill -9 a service with running and queued jobs: after a restart all of them end, and no process is left."""
    async with service_process(folder, **egress(youtube)) as service:
        links = [watch_url(video_id(Kind.SHORT, first_number + n)) for n in range(120)]
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
    """POST through nginx, expecting it to be taken."""
    async with client.post(f"{cluster.url}/extract", json={"url": link}) as response:
        assert response.status in {200, 202}, await response.text()
        job: dict[str, Any] = await response.json()
        return job


async def all_end_well(
    service: ServiceProcess, jobs: Sequence[dict[str, Any]], *, seconds: float
) -> list[dict[str, Any]]:
    """Follow jobs at one instance until all are completed."""
    ended = [await service.until(job["job_id"], seconds=seconds) for job in jobs]
    assert [job for job in ended if job["status"] != "completed"] == []
    return ended


async def every_file_is_whole(cluster: Cluster, service: ServiceProcess, jobs: Sequence[dict[str, Any]]) -> None:
    """Each job's track is what its record says, through nginx."""
    for job in jobs:
        async with service.client.get(cluster.url + job["download_url"]) as response:
            assert response.status == 200
            assert hashlib.sha256(await response.read()).hexdigest() == job["file"]["sha256"]


def finished(cluster: Cluster) -> Counter[str]:
    """How often each conversion was finished, by the instances' logs."""
    return Counter(
        event["conversion_id"] for service in cluster.instances for event in service.events("conversion done")
    )


async def kill_one(cluster: Cluster, *, jobs: int, first_number: int) -> dict[str, float]:
    """kill -9 one of three in mid-work: nothing acknowledged is lost, nothing is finished twice."""
    victim, *others = cluster.instances
    client = others[0].client
    links = [watch_url(video_id(Kind.SHORT, first_number + number)) for number in range(jobs)]
    accepted = await asyncio.gather(*(submit(cluster, client, link) for link in links))
    async with asyncio.timeout(20):
        while not victim.events("conversion done"):
            await asyncio.sleep(0.05)
    tools = descendants(victim.pid)
    killed_at = time.monotonic()
    await victim.stop(signal.SIGKILL)
    ended = await all_end_well(others[0], accepted, seconds=120)
    seconds = time.monotonic() - killed_at
    assert max(finished(cluster).values()) == 1
    await every_file_is_whole(cluster, others[0], ended)
    assert not [pid for pid in tools if Path(f"/proc/{pid}").exists()]
    adopted = sum(event["conversions"] for service in others for event in service.events("conversions adopted"))
    await victim.start()
    return {"jobs": jobs, "orphans_adopted": adopted, "seconds_to_all_done": round(seconds, 1)}


async def freeze_one(
    cluster: Cluster, *, youtube: Spawned, frozen_seconds: float, first_number: int
) -> dict[str, float]:
    """SIGSTOP an instance in mid-conversion: another finishes, and the one that wakes up writes nothing."""
    zombie, *others = cluster.instances
    _, job = await zombie.post(watch_url(video_id(Kind.SLOW, first_number)))
    await zombie.until(job["job_id"], "downloading", "converting")
    tools = descendants(zombie.pid)
    zombie.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        stopped_at = time.monotonic()
        ended = await others[0].until(job["job_id"], seconds=120)
        taken_over_seconds = time.monotonic() - stopped_at
        assert ended["status"] == "completed"
        await asyncio.sleep(max(0.0, frozen_seconds - taken_over_seconds))
    finally:
        zombie.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    async with asyncio.timeout(10):
        while (descendants(zombie.pid) & tools) - {min(tools)} or (await zombie.get("/stats"))[1]["workers"]["active"]:
            await asyncio.sleep(0.05)
    assert not [event for event in zombie.events("conversion done") if event["conversion_id"]]
    assert (await zombie.job(job["job_id"]))["file"]["sha256"] == ended["file"]["sha256"]
    await every_file_is_whole(cluster, others[0], [ended])
    return {"taken_over_and_done_seconds": round(taken_over_seconds, 1)}


async def restart_redis(cluster: Cluster, *, jobs: int, first_number: int) -> dict[str, float]:
    """kill -9 of Redis under load, restarted with its AOF: nothing acknowledged is lost."""
    service = cluster.instances[0]
    accepted: list[dict[str, Any]] = []
    refused = 0

    async def load(number: int) -> None:
        nonlocal refused
        await asyncio.sleep(number * 0.02)
        link = watch_url(video_id(Kind.SHORT, first_number + number))
        async with service.client.post(f"{cluster.url}/extract", json={"url": link}) as response:
            if response.status == 202:
                accepted.append(await response.json())
            else:
                assert response.status == 503, await response.text()
                assert int(response.headers["Retry-After"]) >= 1
                refused += 1

    work = asyncio.gather(*(load(number) for number in range(jobs)))
    await asyncio.sleep(jobs * 0.01)
    cluster.valkey.stop()
    await asyncio.sleep(0.5)
    await asyncio.to_thread(cluster.valkey.start)
    await work
    await all_end_well(service, accepted, seconds=120)
    return {"accepted": len(accepted), "refused": refused}


async def freeze_redis(cluster: Cluster, *, seconds: float) -> dict[str, float]:
    """SIGSTOP of Redis: every POST is refused in time, live probes answer, and all is well afterwards."""
    service = cluster.instances[0]
    link = watch_url(video_id(Kind.SHORT, 9999))
    _, job = await service.post(link)
    done = await service.until(job["job_id"])
    waits: list[float] = []
    cluster.valkey.freeze()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            started_at = time.monotonic()
            status, answer = await service.post(link)
            waits.append(time.monotonic() - started_at)
            assert (status, answer["code"]) == (503, "store_unavailable")
            assert (await service.get("/health/live"))[0] == 200
            await asyncio.sleep(0.05)
        assert (await service.get("/health"))[0] == 503
    finally:
        cluster.valkey.thaw()
    async with asyncio.timeout(5):
        while (await service.get("/health"))[0] != 200:
            await asyncio.sleep(0.05)
    assert (await service.post(link))[0] == 200
    assert (await service.job(done["job_id"]))["status"] == "completed"
    return {"posts": len(waits), "p99_ms": round(1000 * sorted(waits)[int(len(waits) * 0.99)], 1)}


async def roll(cluster: Cluster, *, rate: float, first_number: int) -> dict[str, float]:
    """Restart all three, one after the other, under load: no request fails, no download is cut, no job is lost."""
    client = ClientSession()
    done = asyncio.Event()
    counts: Counter[str] = Counter()
    accepted: list[dict[str, Any]] = []
    first = await submit(cluster, client, watch_url(video_id(Kind.CLIP, first_number)))
    track = (await all_end_well(cluster.instances[0], [first], seconds=30))[0]

    async def ask(number: int) -> None:
        match number % 5:
            case 0:
                link = watch_url(video_id(Kind.SHORT, first_number + number % 50))
                accepted.append(await submit(cluster, client, link))
            case 1:
                async with client.get(cluster.url + track["download_url"]) as response:
                    assert response.status == 200, await response.text()
                    assert len(await response.read()) == track["file"]["size_bytes"]
            case _:
                async with client.get(f"{cluster.url}/status/{track['job_id']}") as response:
                    assert response.status == 200, await response.text()
        counts["answered"] += 1

    async def load() -> None:
        started_at = time.monotonic()
        number = 0
        async with asyncio.TaskGroup() as tasks:
            while not done.is_set():
                tasks.create_task(ask(number))
                number += 1
                await asyncio.sleep(max(0.0, started_at + number / rate - time.monotonic()))

    async with client:
        work = asyncio.create_task(load())
        for service in cluster.instances:
            assert await service.stop(signal.SIGTERM) == 0
            await service.start()
            await asyncio.sleep(0.5)
        done.set()
        await work
        await all_end_well(cluster.instances[0], accepted, seconds=60)
    return {"answered": counts["answered"], "jobs": len(accepted)}


async def read_your_writes(cluster: Cluster, *, pairs: int, first_number: int) -> dict[str, float]:
    """POST, then GET through nginx, which may ask another instance: never a 404."""
    client = cluster.instances[0].client
    warm = [await submit(cluster, client, watch_url(video_id(Kind.SHORT, first_number + n))) for n in range(5)]
    await all_end_well(cluster.instances[0], warm, seconds=30)
    gate = asyncio.Semaphore(20)
    asked: Counter[int] = Counter()

    async def pair(number: int) -> None:
        async with gate:
            job = await submit(cluster, client, watch_url(video_id(Kind.SHORT, first_number + number % 5)))
            async with client.get(f"{cluster.url}/status/{job['job_id']}") as response:
                asked[response.status] += 1

    await asyncio.gather(*(pair(number) for number in range(pairs)))
    assert asked == {200: pairs}
    return {"pairs": pairs}


async def answers(service: ServiceProcess) -> bool:
    """Whether an instance answers at all."""
    with contextlib.suppress(ClientError, OSError, TimeoutError):
        return (await service.get("/health/live"))[0] == 200
    return False
