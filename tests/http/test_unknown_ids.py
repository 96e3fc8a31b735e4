"""Ids that are unknown, expired, malformed or of another client: the response is the same for all of them."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz_factor import FUZZ_FACTOR
from tests.http.responses import raw_request
from tests.http.running_service import RunningService, running_service
from ytmp3.core.ids import JobId
from ytmp3.http.keys import key_line, new_secret

VIDEO = "dQw4w9WgXcQ"


@dataclass(frozen=True, slots=True)
class WithForeignIds:
    """A service that requires keys, a key for it, and ids that the key's owner must learn nothing about."""

    service: RunningService
    key: str
    ids: dict[str, str]


@pytest.fixture
async def foreign(tmp_path: Path) -> AsyncIterator[WithForeignIds]:
    alice, bob = new_secret(b"a" * 24), new_secret(b"b" * 24)
    (tmp_path / "keys").write_text(f"{key_line('alice', alice)}\n{key_line('bob', bob)}\n")
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(tmp_path / "keys")) as service:
        # Only the test sweeps, so that it knows what was removed.
        sweep = service.store.held_calls["expire"] = asyncio.Event()
        service.client.headers["X-API-Key"] = alice
        expired = (await service.completed("expired____"))["job_id"]
        service.store_clock.shift_seconds = 25 * 3600.0
        sweep.set()
        await service.store.expire(10)
        assert await service.store.get(JobId(expired)) is None
        service.client.headers["X-API-Key"] = bob
        of_bob = (await service.completed(VIDEO))["job_id"]
        service.client.headers["X-API-Key"] = alice
        ids = {"unknown": "0" * 34, "expired": expired, "another client's": of_bob, "malformed": of_bob.upper()}
        yield WithForeignIds(service, alice, ids)


async def test_unknown_expired_foreign_and_malformed_ids_get_one_response_byte_for_byte(
    foreign: WithForeignIds,
) -> None:
    of_bob = foreign.ids["another client's"]
    ids = [*foreign.ids.values(), f"{of_bob[:-1]}{'0' if of_bob[-1] != '0' else '1'}", "x" * 3000]
    ids += ["%00", "..%2f..%2fetc%2fpasswd", "$(id)", "{job_id}", "}", "%27%20OR%201=1%20--", "%F0%9F%92%A5"]
    ids += [of_bob + "%20", of_bob + "%0a", of_bob[:33] + "%EF%BC%91", of_bob[:33] + "%D9%A1"]
    responses: set[tuple[tuple[bytes, ...], bytes]] = set()
    for job_id in ids:
        for request in (
            f"GET /status/{job_id}", f"GET /download/{job_id}.mp3", f"DELETE /jobs/{job_id}", f"GET /download/{job_id}",
        ):  # fmt: skip
            response = await foreign.service.raw(raw_request(request, f"X-API-Key: {foreign.key}"))
            head, _, body = response.partition(b"\r\n\r\n")
            fields = [
                line for line in head.split(b"\r\n") if not line.startswith((b"X-Request-Id:", b"Date:", b"RateLimit:"))
            ]
            responses.add((tuple(sorted(fields)), body))
    assert len(responses) == 1, responses
    ((fields_of_all, _),) = responses
    assert any(b" 404 " in field for field in fields_of_all)


async def test_the_work_for_an_unknown_expired_or_foreign_id_is_the_same(foreign: WithForeignIds) -> None:
    """The time of a response tells nothing of the id if the same is done for each. The form of an id is no secret."""
    calls: dict[str, list[str]] = {}
    for kind, job_id in foreign.ids.items():
        before = len(foreign.service.store.calls)
        async with foreign.service.client.get(f"{foreign.service.url}/status/{job_id}") as response:
            assert response.status == 404
        made = foreign.service.store.calls[before:]
        calls[kind] = [call for call in made if call == "get"]
    assert calls == {"unknown": ["get"], "expired": ["get"], "another client's": ["get"], "malformed": []}


@pytest.mark.fuzz
async def test_no_guess_finds_a_job(service: RunningService) -> None:
    """Guesses have the form of an id; half of them differ from an existing id by one digit. `make fuzz`: 400,000."""
    jobs = [(await service.submit(VIDEO))["job_id"] for _ in range(100)]
    chance = random.Random(8)
    found = 0
    for number in range(20_000 * FUZZ_FACTOR):
        near = list(chance.choice(jobs))
        near[chance.randrange(2, 34)] = chance.choice("0123456789abcdef")
        guess = "".join(near) if number % 2 else near[0] + near[1] + chance.randbytes(16).hex()
        found += guess not in jobs and await service.parts.store.get(JobId(guess)) is not None
    assert found == 0
    assert await service.parts.store.get(JobId(jobs[0])) is not None
