"""kill -9 while tracks are published (P10): what is called completed is whole, and nothing else can be downloaded."""

import asyncio
import hashlib
import os
import random
import signal
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.service_process import ServiceProcess, egress, service_process
from ytmp3.converter.audio.mp3 import walk_file

KILLS = 10
CLIPS = 4
"""At once, so that others are about to be published when the first one is."""
LATEST_SECONDS = 0.03


async def whole_or_refused(service: ServiceProcess, job_id: str) -> None:
    async with service.client.get(f"{service.url}/download/{job_id}.mp3") as response:
        content = await response.read()
        if response.status != 200:
            assert response.status == 409
            return
    job = await service.job(job_id)
    assert job["status"] == "completed"
    assert hashlib.sha256(content).hexdigest() == job["file"]["sha256"]


async def test_ten_kills_around_publishing_never_show_half_a_track(youtube: Spawned, tmp_path: Path) -> None:
    chance = random.Random(10)
    tracks = tmp_path / "data" / "tracks"
    job_ids: list[str] = []
    async with service_process(tmp_path, **egress(youtube)) as service:
        for number in range(KILLS):
            before = len(os.listdir(tracks))
            links = [watch_url(video_id(Kind.SHORT, 7000 + CLIPS * number + clip)) for clip in range(CLIPS)]
            job_ids += [job["job_id"] for _, job in await asyncio.gather(*map(service.post, links))]
            async with asyncio.timeout(30):
                while len(os.listdir(tracks)) == before:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(chance.uniform(0, LATEST_SECONDS))
            await service.stop(signal.SIGKILL)
            # Also what no record knows was renamed when it was whole.
            for track in tracks.iterdir():
                assert walk_file(track).duration_seconds > 3.9
            await service.start()
            for job_id in job_ids[-CLIPS:]:
                await whole_or_refused(service, job_id)
                assert (await service.until(job_id))["status"] == "completed"
        for job_id in job_ids:
            await whole_or_refused(service, job_id)
