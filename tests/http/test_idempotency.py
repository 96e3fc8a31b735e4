"""`Idempotency-Key` on `POST /extract`, as docs/api.md describes it."""

import asyncio
from typing import Any

import pytest

from tests.http.responses import expect_problem
from tests.http.running_service import RunningService

LINK = {"url": "https://youtu.be/dQw4w9WgXcQ"}
OTHER_LINK = {"url": "https://youtu.be/aqz-KE-bpKQ"}
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


async def post(service: RunningService, key: str, link: dict[str, str] = LINK) -> tuple[int, dict[str, Any]]:
    headers = {"Idempotency-Key": key}
    async with service.client.post(f"{service.url}/extract", json=link, headers=headers) as response:
        return response.status, await response.json()


async def test_repeated_posts_with_a_key_are_one_job_and_without_one_they_are_not(service: RunningService) -> None:
    answers = await asyncio.gather(*(post(service, key) for key in (KEY, f'"{KEY}"') * 10))
    (job_id,) = {job["job_id"] for _, job in answers}
    await service.ended(job_id)
    status, job = await post(service, KEY)
    assert (status, job["job_id"], job["status"]) == (200, job_id, "completed")
    counts = await service.store.counts()
    assert counts.completed == 1
    assert (await service.submit("dQw4w9WgXcQ"))["job_id"] != job_id


async def test_a_key_with_another_body_is_422(service: RunningService) -> None:
    await post(service, KEY)
    headers = {"Idempotency-Key": KEY}
    for body in (OTHER_LINK, LINK | {"quality": "320k"}):
        await expect_problem(service, "POST", "/extract", 422, "idempotency_key_reused", json=body, headers=headers)
    # The same fields in another order or spelling of JSON are the same request.
    async with service.client.post(
        f"{service.url}/extract",
        data=b'{"quality": "192k",\n "url": "https:\\/\\/youtu.be\\/dQw4w9WgXcQ"}',
        headers=headers | {"Content-Type": "application/json"},
    ) as response:
        assert response.status in {200, 202}


@pytest.mark.parametrize("key", ["", "a b", "~" * 256, '""'])
async def test_a_malformed_key_is_refused(service: RunningService, key: str) -> None:
    headers = {"Idempotency-Key": key}
    await expect_problem(service, "POST", "/extract", 400, "invalid_idempotency_key", json=LINK, headers=headers)
    assert service.store.calls.count("submit") == 0
