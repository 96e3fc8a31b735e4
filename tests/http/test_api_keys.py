"""API keys: access, the ownership of jobs, and the limits of a key."""

import asyncio
from pathlib import Path

import pytest

from tests.http.responses import expect_problem, raw_request, statuses_of
from tests.http.running_service import running_service
from ytmp3.http.keys import key_line, new_secret
from ytmp3.serve import reload_keys

ALICE, BOB = new_secret(b"a" * 24), new_secret(b"b" * 24)
BODY = b'{"url":"https://youtu.be/dQw4w9WgXcQ"}'


def link(number: int) -> dict[str, str]:
    return {"url": f"https://youtu.be/video{number:06d}"}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# two clients\n{key_line('alice', ALICE)}\n{key_line('bob', BOB)} max_jobs=1\n")
    return path


async def test_a_key_is_required_and_only_the_owner_sees_a_job(tmp_path: Path, keys_file: Path) -> None:
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(keys_file)) as service:
        async with service.client.post(
            f"{service.url}/extract", json=link(0), headers={"X-API-Key": ALICE}
        ) as response:
            assert response.status == 202
            job_id = (await response.json())["job_id"]
        headers = {"Authorization": f"Bearer {ALICE}"}
        async with service.client.get(f"{service.url}/status/{job_id}", headers=headers) as response:
            assert response.status == 200
        for method, path in (
            ("GET", f"/status/{job_id}"), ("DELETE", f"/jobs/{job_id}"), ("GET", f"/download/{job_id}.mp3"),
        ):  # fmt: skip
            await expect_problem(service, method, path, 404, "job_unknown", headers={"X-API-Key": BOB})
        async with service.client.get(f"{service.url}/health") as response:
            assert response.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}, {"Authorization": "Bearer"},
        {"Authorization": f"Basic {ALICE}"}, {"X-API-Key": "x" * 8000},
        {"X-API-Key": ALICE, "Authorization": f"Bearer {ALICE}"},
    ],
    ids=["none", "wrong", "empty", "no token", "another scheme", "8 kB", "two keys"],
)  # fmt: skip
async def test_a_request_without_exactly_one_valid_key_is_a_401(
    tmp_path: Path, keys_file: Path, headers: dict[str, str]
) -> None:
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(keys_file)) as service:
        refused = await expect_problem(service, "POST", "/extract", 401, "unauthorized", json=link(0), headers=headers)
        assert refused["WWW-Authenticate"].startswith("Bearer")


async def test_every_wrong_key_gets_one_response_and_no_body_is_asked_for(tmp_path: Path, keys_file: Path) -> None:
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(keys_file)) as service:
        presented: tuple[tuple[str, ...], ...] = (
            (), ("Authorization: Bearer",), ("Authorization: Bearer  x",), (f"Authorization: Basic {ALICE}",),
            ("Authorization: Bearer cl\xe9",), ("X-API-Key: cl\xe9",), ("X-API-Key: " + "x" * 8000,),
            (f"X-API-Key: {ALICE}", f"X-API-Key: {ALICE}"), (f"Authorization: Bearer {ALICE[:-1]}",),
            (f"Authorization: {ALICE}",), (f"X-API-Key: {ALICE.upper()}",), (f"X-API-Key: {ALICE} {ALICE}",),
        )  # fmt: skip
        announced = ("Content-Type: application/json", f"Content-Length: {len(BODY)}", "Expect: 100-continue")
        # In parallel, because each connection is kept for a while for the body that was announced.
        responses = await asyncio.gather(
            *(service.raw(raw_request("POST /extract", *announced, *fields)) for fields in presented)
        )
        assert [statuses_of(response) for response in responses] == [[401]] * len(presented)
        assert len({response.partition(b"\r\n\r\n")[2] for response in responses}) == 1
        assert statuses_of(await service.raw(raw_request("GET /stats", "X-API-Key: a\x00b"))) == [400]
        assert service.store.calls.count("submit") == 0


async def test_a_key_may_have_limits_of_its_own(tmp_path: Path, keys_file: Path) -> None:
    keys_file.write_text(
        f"{key_line('alice', ALICE)} requests_per_second=0.001 burst=3\n{key_line('bob', BOB)} max_jobs=1\n"
    )
    alice, bob = {"X-API-Key": ALICE}, {"X-API-Key": BOB}
    settings = {"API_KEYS_FILE": str(keys_file), "CLIENT_REQUESTS_PER_SECOND": "100", "CLIENT_MAX_JOBS": "2"}
    async with running_service(tmp_path / "data", **settings) as service:
        for number in range(5):
            service.converter.hold(f"video{number:06d}")
        # Bob has a quota of one job where others have two, and as many requests as others.
        for _ in range(10):
            async with service.client.get(f"{service.url}/stats", headers=bob) as response:
                assert response.status == 200
                assert '"client";q=200;w=2' in response.headers["RateLimit-Policy"]
        async with service.client.post(f"{service.url}/extract", json=link(0), headers=bob) as response:
            assert response.status == 202
        await expect_problem(service, "POST", "/extract", 429, "client_quota", json=link(1), headers=bob)
        # Alice has three requests where others have two hundred, and as many jobs as others.
        for number in (2, 3):
            async with service.client.post(f"{service.url}/extract", json=link(number), headers=alice) as response:
                assert response.status == 202
                assert '"client";q=3;w=3000' in response.headers["RateLimit-Policy"]
        await expect_problem(service, "POST", "/extract", 429, "client_quota", json=link(4), headers=alice)
        refused = await expect_problem(service, "GET", "/stats", 429, "rate_limited", headers=alice)
        assert 0 < int(refused["Retry-After"]) <= 1000


async def test_reloaded_keys_apply_at_once_and_a_broken_file_changes_nothing(tmp_path: Path, keys_file: Path) -> None:
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(keys_file)) as service:
        keys_file.write_text(key_line("bob", BOB) + "\n")
        await reload_keys(service.parts)
        await expect_problem(service, "GET", "/stats", 401, "unauthorized", headers={"X-API-Key": ALICE})
        keys_file.write_text("broken\n")
        await reload_keys(service.parts)
        async with service.client.get(f"{service.url}/stats", headers={"X-API-Key": BOB}) as response:
            assert response.status == 200
