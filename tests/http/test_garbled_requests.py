"""Generated requests: from the OpenAPI document, and by garbling valid ones byte by byte on a raw socket.

`make test` runs a short form; `make fuzz` sets FUZZ_FACTOR and runs for long.
"""

import asyncio
import random
from pathlib import Path

import pytest

from tests.fuzz_factor import FUZZ_FACTOR
from tests.http.garbled_requests import FOLLOW_UP, REQUESTS, STREAM, garbled
from tests.http.responses import statuses_of
from tests.http.running_service import RunningService
from tests.stand.raw_http import exchange
from tests.stand.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.fuzz
VIDEO = "dQw4w9WgXcQ"


async def test_no_garbled_request_gets_a_500_or_breaks_the_service(service: RunningService) -> None:
    job_id = (await service.completed(VIDEO))["job_id"].encode()
    chance = random.Random(20261123)
    at_once = asyncio.Semaphore(20)

    async def send(request: bytes) -> None:
        # Closing this side lets the service close at once a connection whose request can never be complete.
        async with at_once:
            received = await exchange(
                service.host, service.port, request + FOLLOW_UP, seconds=PATIENCE_SECONDS, is_all=True
            )
        for status in statuses_of(received):
            assert status < 500 or status == 503, (request, received)
        assert b"Traceback" not in received, request

    requests = [
        garbled(template.replace(b"%s", job_id) if b"%s" in template else template, chance)
        for template in (*REQUESTS, STREAM)
        for _ in range(50 * FUZZ_FACTOR)
    ]
    await asyncio.gather(*map(send, requests))
    async with service.client.get(f"{service.url}/health") as response:
        assert response.status == 200
    await until(lambda: service.parts.runs.active == 0, "the conversions of the valid ones have ended")


async def test_requests_made_from_the_openapi_document_get_documented_responses(
    service: RunningService, tmp_path: Path
) -> None:
    # schemathesis takes half a second to import, in each worker of the test run.
    from tests.stand.openapi_requests import answers_are_as_documented

    await answers_are_as_documented(service, service.url, tmp_path, examples=15 * FUZZ_FACTOR)
