"""Three instances, one Valkey, nginx: one truth, whatever dies. Small rounds here; `make soak` runs them in full."""

import asyncio
import signal
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand import failures
from tests.stand.cluster import cluster
from tests.stand.links import spellings
from tests.stand.service_process import egress

SHORT_LEASE = {"LEASE_SECONDS": "3", "DRAIN_SECONDS": "10"}


async def test_three_hundred_posts_of_one_link_are_one_conversion(youtube: Spawned, tmp_path: Path) -> None:
    identifier = video_id(Kind.SHORT, 1)
    async with cluster(tmp_path / "c", egress(youtube)) as running:
        client = running.instances[0].client
        links = spellings(identifier) * 12
        jobs = await asyncio.gather(*(failures.submit(running, client, link) for link in links))
        assert len({job["job_id"] for job in jobs}) == 300
        ended = await failures.all_end_well(running.instances[1], jobs, seconds=30)
        tags = set()
        for service in running.instances:
            for job in ended[::10]:
                async with service.client.head(service.url + job["download_url"]) as response:
                    assert response.status == 200
                    tags.add(response.headers["ETag"])
        assert len(tags) == 1
        await failures.every_file_is_whole(running, running.instances[2], ended[::50])
    counts = youtube.counts(identifier)
    assert (counts.extractions, counts.media_requests) == (1, 1)


async def test_an_instance_that_is_killed_loses_nothing(youtube: Spawned, tmp_path: Path) -> None:
    async with cluster(tmp_path / "c", SHORT_LEASE | egress(youtube)) as running:
        figures = await failures.kill_one(running, jobs=90, first_number=100)
        assert figures["orphans_adopted"] > 0
        assert figures["seconds_to_all_done"] < failures.ADOPTION_SECONDS + 60


async def test_an_instance_that_was_frozen_publishes_nothing(youtube: Spawned, tmp_path: Path) -> None:
    async with cluster(tmp_path / "c", SHORT_LEASE | egress(youtube)) as running:
        await failures.freeze_one(running, youtube=youtube, frozen_seconds=0, first_number=1)


async def test_redis_dies_and_freezes_and_no_job_is_lost(youtube: Spawned, tmp_path: Path) -> None:
    async with cluster(tmp_path / "c", egress(youtube)) as running:
        await failures.restart_redis(running, jobs=60, first_number=300)
        figures = await failures.freeze_redis(running, seconds=3)
        assert figures["p99_ms"] <= 300


async def test_what_one_instance_takes_all_can_tell(youtube: Spawned, tmp_path: Path) -> None:
    async with cluster(tmp_path / "c", egress(youtube)) as running:
        await failures.read_your_writes(running, pairs=500, first_number=500)


async def test_a_rolling_restart_fails_no_request(youtube: Spawned, tmp_path: Path) -> None:
    async with cluster(tmp_path / "c", SHORT_LEASE | egress(youtube)) as running:
        figures = await failures.roll(running, rate=50, first_number=600)
        assert figures["answered"] > 100


async def test_what_a_draining_instance_gives_back_is_taken_at_once(youtube: Spawned, tmp_path: Path) -> None:
    settings = {"WORKER_POOL_SIZE": "1", "DRAIN_SECONDS": "0"}
    async with cluster(tmp_path / "c", settings | egress(youtube), instances=2) as running:
        leaving, staying = running.instances
        _, held = await leaving.post(watch_url(video_id(Kind.STALLED, 2)))
        _, waiting = await leaving.post(watch_url(video_id(Kind.SHORT, 700)))
        await leaving.until(held["job_id"], "downloading", "converting")
        leaving.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        async with asyncio.timeout(4):
            while not staying.events("conversions adopted"):
                await asyncio.sleep(0.02)
        assert (await staying.job(waiting["job_id"]))["status"] in {"pending", "processing", "completed"}
        assert await leaving.process.wait() == 0  # type: ignore[union-attr]
