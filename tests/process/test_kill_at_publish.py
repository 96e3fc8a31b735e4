"""kill -9 while tracks are published: a completed job has a whole track, and no other job can be downloaded."""

import asyncio
import hashlib
import random
import signal
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.waiting import until
from ytmp3.converter.audio.mp3 import walk_file

KILLS = 6
JOBS_PER_KILL = 4
"""At once, so that other tracks are about to be published when the first one is."""
LATEST_SECONDS = 0.03
"""The kill comes between 0 and this long after the first track appears. The times spread the kills over the steps of
publishing; what is asserted holds at any time.
"""


async def is_whole_or_refused(service: ServiceProcess, job_id: str) -> None:
    async with service.client.get(f"{service.url}/download/{job_id}.mp3") as response:
        content = await response.read()
        if response.status != 200:
            assert response.status == 409
            return
    job = await service.job(job_id)
    assert job["status"] == "completed"
    assert hashlib.sha256(content).hexdigest() == job["file"]["sha256"]


async def test_kills_around_publishing_never_show_half_a_track(youtube: Spawned, tmp_path: Path) -> None:
    chance = random.Random(10)
    tracks = tmp_path / "data" / "tracks"
    job_ids: list[str] = []
    async with service_process(tmp_path, **egress(youtube)) as service:
        for number in range(KILLS):
            published = set(tracks.glob("[!.]*"))
            first = 7000 + JOBS_PER_KILL * number
            links = [watch_url(video_id(Kind.SHORT, first + clip)) for clip in range(JOBS_PER_KILL)]
            job_ids += [job["job_id"] for _, job in await asyncio.gather(*map(service.post, links))]

            def is_one_published(published: set[Path] = published) -> bool:
                return set(tracks.glob("[!.]*")) != published

            await until(is_one_published, "the first track is published", poll_seconds=0.001)
            await asyncio.sleep(chance.uniform(0, LATEST_SECONDS))
            await service.stop(signal.SIGKILL)
            # A track that no record names yet was complete, too, before it was given its name.
            for track in tracks.glob("[!.]*"):
                assert walk_file(track).duration_seconds > 3.9
            await service.start()
            for job_id in job_ids[-JOBS_PER_KILL:]:
                await is_whole_or_refused(service, job_id)
                assert (await service.until(job_id))["status"] == "completed"
        for job_id in job_ids:
            await is_whole_or_refused(service, job_id)
