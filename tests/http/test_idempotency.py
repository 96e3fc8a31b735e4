"""`Idempotency-Key` on `POST /extract` and `POST /batches`, as docs/api.md describes it."""

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


async def test_repeated_posts_with_a_key_are_one_batch(service: RunningService) -> None:
    async def post_batch(body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Idempotency-Key": KEY}
        async with service.client.post(f"{service.url}/batches", json=body, headers=headers) as response:
            batch: dict[str, Any] = await response.json()
            assert (response.status, response.headers["Location"]) == (202, batch["status_url"])
            return batch

    body: dict[str, Any] = {"urls": [LINK["url"], OTHER_LINK["url"]]}
    batches = await asyncio.gather(*(post_batch(body) for _ in range(10)))
    (batch_id,) = {batch["batch_id"] for batch in batches}
    assert await service.store.batches.unfinished() == 1
    assert (await post_batch({"quality": "192k"} | body))["batch_id"] == batch_id
    others = ({"urls": [LINK["url"]]}, body | {"quality": "320k"}, {"playlist": "https://www.youtube.com/@Blender"})
    for other in others:
        await expect_problem(
            service, "POST", "/batches", 422, "idempotency_key_reused", json=other, headers={"Idempotency-Key": KEY}
        )
    await expect_problem(
        service, "POST", "/batches", 400, "invalid_idempotency_key", json=body, headers={"Idempotency-Key": "a b"}
    )
    # The same key on another route is another key.
    assert (await post(service, KEY))[1]["batch_id"] is None
