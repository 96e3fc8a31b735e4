"""A data folder that hangs or is read-only, under a running service: requests are answered, and nothing is lost."""

import asyncio
from pathlib import Path

import pytest

from tests.http.running_service import RunningService, running_service
from tests.stand.faulty_disk import can_mount, hanging_for_others, read_only_for_others
from tests.stand.waiting import until
from ytmp3.http.connections import TIMEOUTS

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(not can_mount(), reason="only root with /dev/fuse may mount a folder that hangs"),
]

QUICK = {"disk_seconds": 0.1, "disk_limit_seconds": 2.0}
"""Long enough for a busy machine, whose disk would otherwise seem to hang."""


async def health(service: RunningService) -> tuple[int, dict[str, object]]:
    async with service.client.get(f"{service.url}/health") as response:
        return response.status, (await response.json())["checks"]["storage"]


async def until_health(service: RunningService, status: int) -> None:
    async def is_so() -> bool:
        return (await health(service))[0] == status

    await until(is_so, f"/health is answered with {status}", poll_seconds=0.03)


async def post(service: RunningService, video_id: str) -> tuple[int, str]:
    body = {"url": f"https://youtu.be/{video_id}"}
    async with service.client.post(f"{service.url}/extract", json=body) as response:
        answer = await response.json()
        return response.status, answer.get("code") or answer["job_id"]


async def test_the_event_loop_answers_while_the_data_folder_hangs(tmp_path: Path) -> None:
    async with running_service(tmp_path, TIMEOUTS, QUICK) as service:
        done = await service.completed("dQw4w9WgXcQ")
        service.converter.hold("video000001")
        running = await service.submit("video000001")
        await until(lambda: "video000001" in service.converter.running, "the conversion runs", poll_seconds=0.03)
        async with hanging_for_others(tmp_path / "tracks", tmp_path / "scratch"):
            download = asyncio.create_task(service.client.get(service.url + done["download_url"]))
            cached = asyncio.create_task(post(service, "dQw4w9WgXcQ"))
            await until_health(service, 503)
            assert "has not answered for" in str((await health(service))[1]["detail"])
            # Each of these would wait for the disk if the event loop did.
            for path in ("/health/live", "/metrics", "/stats", f"/status/{done['job_id']}"):
                async with service.client.get(service.url + path) as response:
                    assert response.status == 200
            assert await post(service, "video000002") == (503, "unready")
        # Whatever the answers are, they come.
        async with await download as response:
            assert response.status in {200, 410, 503}
        assert (await cached)[0] in {200, 202, 503}
        await until_health(service, 200)
        service.converter.hold("video000001").set()
        job = await service.ended(running["job_id"])
        assert (job["status"], job["attempt"]) == ("completed", 1)
        await service.completed("video000002")


async def test_a_data_folder_that_turns_read_only_costs_no_attempt(tmp_path: Path) -> None:
    async with running_service(tmp_path, TIMEOUTS, QUICK) as service:
        service.converter.hold("video000001")
        running = await service.submit("video000001")
        await until(lambda: "video000001" in service.converter.running, "the conversion runs", poll_seconds=0.03)
        async with read_only_for_others(tmp_path / "scratch"):
            service.converter.hold("video000001").set()
            await until_health(service, 503)
            assert "Read-only file system" in str((await health(service))[1]["detail"])
            assert await post(service, "video000002") == (503, "unready")
        await until_health(service, 200)
        job = await service.ended(running["job_id"])
        assert (job["status"], job["attempt"]) == ("completed", 1)
