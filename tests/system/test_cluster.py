"""Three instances, one Valkey and nginx show the same jobs to everybody, whichever of them fails.

The rounds are small here; `make soak` runs them at full size.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import cast

import pytest
import pytest_asyncio

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand import failures
from tests.stand.cluster import Cluster, cluster
from tests.stand.links import spellings
from tests.stand.service_process import egress

# Each of these tests fills a machine, so they run one after the other. A cluster costs seconds of CPU time, so tests
# with the same settings share one, and the event loop that its clients belong to.
pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.asyncio(loop_scope="module")]

USUAL: dict[str, str] = {}
SHORT_LEASE = {"LEASE_SECONDS": "6", "DRAIN_SECONDS": "10"}
"""A test waits for the end of a lease. On a busy machine a shorter one could end before its holder renews it."""
BEING_STOPPED = {"WORKER_POOL_SIZE": "1", "DRAIN_SECONDS": "0", "LEASE_SECONDS": "3600"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    request: pytest.FixtureRequest, youtube: Spawned, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cluster]:
    """The cluster of all tests with the same settings. Each test leaves it running, and uses videos of its own."""
    settings, instances = cast("tuple[dict[str, str], int]", request.param)
    folder = tmp_path_factory.mktemp("cluster") / "c"
    async with cluster(folder, settings | egress(youtube), instances=instances) as its:
        yield its


usual = pytest.mark.parametrize("running", [(USUAL, 3)], ids=["usual"], indirect=True)
with_short_leases = pytest.mark.parametrize("running", [(SHORT_LEASE, 3)], ids=["short leases"], indirect=True)
being_stopped = pytest.mark.parametrize("running", [(BEING_STOPPED, 2)], ids=["being stopped"], indirect=True)


@usual
async def test_three_hundred_posts_of_one_link_are_one_conversion(running: Cluster, youtube: Spawned) -> None:
    identifier = video_id(Kind.SHORT, 1)
    # Other modules of the same worker may have converted this video, for other installations.
    before = youtube.counts(identifier)
    client = running.instances[0].client
    links = spellings(identifier) * 12
    jobs = await asyncio.gather(*(failures.submit(running, client, link) for link in links))
    assert len({job["job_id"] for job in jobs}) == 300
    ended = await failures.all_are_completed(running.instances[1], jobs)
    tags = set()
    for service in running.instances:
        for job in ended[::10]:
            async with service.client.head(service.url + job["download_url"]) as response:
                assert response.status == 200
                tags.add(response.headers["ETag"])
    assert len(tags) == 1
    await failures.every_file_is_whole(running, running.instances[2], ended[::50])
    counts = youtube.counts(identifier)
    extractions, media_requests = counts.extractions - before.extractions, counts.media_requests - before.media_requests
    assert (extractions, media_requests) == (1, 1)


@usual
async def test_every_instance_shows_a_job_that_another_one_accepted(running: Cluster) -> None:
    await failures.read_your_writes(running, pairs=500, first_number=500)


@usual
async def test_redis_is_killed_and_frozen_and_no_job_is_lost(running: Cluster) -> None:
    await failures.restart_redis(running, jobs=60, first_number=300)
    await failures.freeze_redis(running, seconds=3)


@with_short_leases
async def test_a_frozen_instance_publishes_nothing_when_it_continues(running: Cluster) -> None:
    await failures.freeze_one(running, frozen_seconds=0, first_number=1)


@with_short_leases
async def test_a_killed_instance_loses_no_job(running: Cluster) -> None:
    await failures.kill_one(running, jobs=45, first_number=100)


@with_short_leases
async def test_a_rolling_restart_fails_no_request(running: Cluster) -> None:
    await failures.roll(running, requests_between=30, first_number=600)


@being_stopped
async def test_conversions_of_a_draining_instance_are_adopted_before_their_leases_end(running: Cluster) -> None:
    leaving, staying = running.instances
    held = await leaving.submit(watch_url(video_id(Kind.STALLED, 2)))
    waiting = await leaving.submit(watch_url(video_id(Kind.SHORT, 700)))
    await leaving.until(held["job_id"], "downloading")
    leaving.send_signal(signal.SIGTERM)
    await staying.until_event("conversions adopted")
    _, adopted = await failures.ask(staying.client, "GET", f"{staying.url}/status/{waiting['job_id']}")
    assert adopted["status"] in {"pending", "processing", "completed"}
    assert await leaving.wait() == 0
