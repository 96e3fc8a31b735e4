"""Rate limits, quotas, the full queue, keys and owners."""

import asyncio
from pathlib import Path

import pytest

from tests.http.stand import stand
from tests.http.test_contract import problem
from ytmp3.http.keys import key_line, new_secret


def link(number: int) -> dict[str, str]:
    return {"url": f"https://youtu.be/video{number:06d}"}


async def test_a_burst_passes_and_the_rest_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with stand(tmp_path / "data", REQUESTS_PER_SECOND="0.1", BURST_SIZE="5") as service:
        statuses = []
        for _ in range(8):
            async with service.client.get(f"{service.url}/stats") as response:
                statuses.append(response.status)
                assert response.headers["RateLimit-Policy"] == '"all";q=5;w=50'
                assert response.headers["RateLimit"].startswith('"all";r=')
        assert statuses == [200] * 5 + [429] * 3
        await problem(service, "GET", "/stats", 429, "rate_limited")
        for path in ("/health", "/health/live", "/metrics"):
            async with service.client.get(service.url + path) as response:
                assert response.status == 200


async def test_one_client_over_its_limit_does_not_limit_another(tmp_path: Path) -> None:
    settings = {"CLIENT_REQUESTS_PER_SECOND": "0.1", "CLIENT_BURST_SIZE": "2", "TRUSTED_PROXIES": "127.0.0.1"}
    async with stand(tmp_path / "data", **settings) as service:
        for expected in (200, 200, 429):
            async with service.client.get(f"{service.url}/stats", headers={"X-Forwarded-For": "192.0.2.1"}) as response:
                assert response.status == expected
        async with service.client.get(
            f"{service.url}/stats", headers={"X-Forwarded-For": "192.0.2.1, 192.0.2.2"}
        ) as response:
            assert response.status == 200
            assert '"client";q=2;w=20' in response.headers["RateLimit-Policy"]


async def test_a_forged_address_is_not_believed(tmp_path: Path) -> None:
    async with stand(tmp_path / "data", CLIENT_REQUESTS_PER_SECOND="0.1", CLIENT_BURST_SIZE="2") as service:
        statuses = []
        for number in range(4):
            headers = {"X-Forwarded-For": f"192.0.2.{number}"}
            async with service.client.get(f"{service.url}/stats", headers=headers) as response:
                statuses.append(response.status)
        assert statuses == [200, 200, 429, 429]


async def test_a_full_queue_refuses_at_once_and_stores_nothing(tmp_path: Path) -> None:
    async with stand(tmp_path / "data", WORKER_POOL_SIZE="1", JOB_QUEUE_CAPACITY="10") as service:
        for number in range(11):
            service.converter.held[f"video{number:06d}"] = asyncio.Event()
        jobs = [await service.submit("video000000")]
        async with asyncio.timeout(5):
            while not service.service.runs.active:
                await asyncio.sleep(0.01)
        jobs += [await service.submit(f"video{number:06d}") for number in range(1, 11)]
        counts = await service.service.store.counts()
        await problem(service, "POST", "/extract", 503, "queue_full", json=link(11))
        assert await service.service.store.counts() == counts
        joined = await service.submit("video000005")
        assert joined["deduplicated"] is True
        for event in service.converter.held.values():
            event.set()
        for job in (*jobs, joined):
            assert (await service.ended(job["job_id"]))["status"] == "completed"


async def test_a_client_has_a_quota_of_its_own(tmp_path: Path) -> None:
    async with stand(tmp_path / "data", CLIENT_MAX_JOBS="2", TRUSTED_PROXIES="127.0.0.0/8") as service:
        for number in range(4):
            service.converter.held[f"video{number:06d}"] = asyncio.Event()
        await service.submit("video000000")
        await service.submit("video000001")
        await problem(service, "POST", "/extract", 429, "client_quota", json=link(2))
        other = {"X-Forwarded-For": "192.0.2.9"}
        async with service.client.post(f"{service.url}/extract", json=link(3), headers=other) as response:
            assert response.status == 202
        for event in service.converter.held.values():
            event.set()


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str, str]:
    first, second = new_secret(b"a" * 24), new_secret(b"b" * 24)
    path = tmp_path / "keys"
    path.write_text(f"# two clients\n{key_line('first', first)}\n{key_line('second', second)} max_jobs=1\n")
    return path, first, second


async def test_a_key_is_asked_for_and_a_job_is_seen_by_its_owner_only(
    tmp_path: Path, keys: tuple[Path, str, str]
) -> None:
    path, first, second = keys
    async with stand(tmp_path / "data", API_KEYS_FILE=str(path)) as service:
        for headers in (
            {}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}, {"Authorization": "Bearer"},
            {"Authorization": f"Basic {first}"},
            {"X-API-Key": "x" * 8000}, {"X-API-Key": first, "Authorization": f"Bearer {first}"},
        ):  # fmt: skip
            answer = await problem(service, "POST", "/extract", 401, "unauthorized", json=link(0), headers=headers)
            assert answer["WWW-Authenticate"].startswith("Bearer")
        raw = b"GET /stats HTTP/1.1\r\nHost: x\r\nX-API-Key: cl\xe9\r\nConnection: close\r\n\r\n"
        assert (await service.raw(raw)).startswith(b"HTTP/1.1 401 ")
        async with service.client.post(
            f"{service.url}/extract", json=link(0), headers={"X-API-Key": first}
        ) as response:
            assert response.status == 202
            job_id = (await response.json())["job_id"]
        mine = {"Authorization": f"Bearer {first}"}
        theirs = {"X-API-Key": second}
        async with service.client.get(f"{service.url}/status/{job_id}", headers=mine) as response:
            assert response.status == 200
        await problem(service, "GET", f"/status/{job_id}", 404, "job_unknown", headers=theirs)
        await problem(service, "DELETE", f"/jobs/{job_id}", 404, "job_unknown", headers=theirs)
        await problem(service, "GET", f"/download/{job_id}.mp3", 404, "job_unknown", headers=theirs)
        async with service.client.get(f"{service.url}/health") as response:
            assert response.status == 200


async def test_a_key_may_have_limits_of_its_own(tmp_path: Path, keys: tuple[Path, str, str]) -> None:
    path, first, second = keys
    path.write_text(
        f"{key_line('first', first)} requests_per_second=0.1 burst=3\n{key_line('second', second)} max_jobs=1\n"
    )
    mine, theirs = {"X-API-Key": first}, {"X-API-Key": second}
    settings = {"API_KEYS_FILE": str(path), "CLIENT_REQUESTS_PER_SECOND": "100", "CLIENT_MAX_JOBS": "2"}
    async with stand(tmp_path / "data", **settings) as service:
        for number in range(10):
            service.converter.held[f"video{number:06d}"] = asyncio.Event()
        # A quota of one where others have two, and as many requests as others.
        for _ in range(10):
            async with service.client.get(f"{service.url}/stats", headers=theirs) as response:
                assert response.status == 200
                assert '"client";q=200;w=2' in response.headers["RateLimit-Policy"]
        async with service.client.post(f"{service.url}/extract", json=link(0), headers=theirs) as response:
            assert response.status == 202
        await problem(service, "POST", "/extract", 429, "client_quota", json=link(1), headers=theirs)
        # Three requests where others have two hundred, and as many jobs as others.
        for number in (2, 3):
            async with service.client.post(f"{service.url}/extract", json=link(number), headers=mine) as response:
                assert response.status == 202
                assert '"client";q=3;w=30' in response.headers["RateLimit-Policy"]
        await problem(service, "POST", "/extract", 429, "client_quota", json=link(4), headers=mine)
        refused = await problem(service, "GET", "/stats", 429, "rate_limited", headers=mine)
        assert 5 <= int(refused["Retry-After"]) <= 10
        for event in service.converter.held.values():
            event.set()


async def test_reloaded_keys_apply_at_once(tmp_path: Path, keys: tuple[Path, str, str]) -> None:
    from ytmp3.serve import reload_keys

    path, first, second = keys
    async with stand(tmp_path / "data", API_KEYS_FILE=str(path)) as service:
        path.write_text(key_line("second", second) + "\n")
        reload_keys(service.service)
        await problem(service, "GET", "/stats", 401, "unauthorized", headers={"X-API-Key": first})
        path.write_text("broken\n")
        reload_keys(service.service)
        async with service.client.get(f"{service.url}/stats", headers={"X-API-Key": second}) as response:
            assert response.status == 200


async def test_cors_is_off_unless_an_origin_is_listed(tmp_path: Path) -> None:
    origin = "https://app.example"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    async with stand(tmp_path / "off") as service:
        await problem(service, "OPTIONS", "/extract", 405, "method_not_allowed", headers=preflight)
        async with service.client.get(f"{service.url}/stats", headers={"Origin": origin}) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
    async with stand(tmp_path / "on", CORS_ORIGINS=origin) as service:
        async with service.client.options(f"{service.url}/extract", headers=preflight) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == origin
            assert "Access-Control-Allow-Credentials" not in response.headers
        await problem(service, "OPTIONS", "/extract", 400, "bad_request", headers=preflight | {"Host": "x y"})
        other = preflight | {"Origin": "https://evil.example"}
        await problem(service, "OPTIONS", "/extract", 405, "method_not_allowed", headers=other)
