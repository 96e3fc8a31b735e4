"""Makes batches at a running service, and follows them: for tests and benches."""

from collections.abc import Sequence
from typing import Any

from tests.http.running_service import POLL_SECONDS, RunningService
from tests.stand.waiting import until


def video(number: int) -> str:
    return f"video{number:06d}"


async def created(service: RunningService, urls: Sequence[object], **fields: object) -> dict[str, Any]:
    async with service.client.post(f"{service.url}/batches", json={"urls": list(urls), **fields}) as response:
        batch: dict[str, Any] = await response.json()
        assert response.status == 202, batch
        assert response.headers["Location"] == batch["status_url"]
        return batch


async def get(service: RunningService, path: str) -> dict[str, Any]:
    async with service.client.get(service.url + path) as response:
        assert response.status == 200, await response.text()
        found: dict[str, Any] = await response.json()
        return found


async def ended(service: RunningService, batch: dict[str, Any]) -> dict[str, Any]:
    last: dict[str, Any] = {}

    async def has_ended() -> bool:
        last.update(await get(service, batch["status_url"]))
        return last["completed_at"] is not None

    await until(has_ended, "the batch has ended", poll_seconds=POLL_SECONDS)
    return last
