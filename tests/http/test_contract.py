"""The routes, the job's JSON and the errors, as the README and DESIGN promise them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDictProxy
from openapi_spec_validator import validate

from tests.fakes import content_of
from tests.http.stand import Stand, stand
from ytmp3.core.errors import FailureCode
from ytmp3.http.routes import ROUTES
from ytmp3.serve import drain as drain_service

VIDEO = "dQw4w9WgXcQ"
JOB_FIELDS = {
    "job_id", "status", "stage", "progress", "queue_position", "eta_seconds", "deduplicated", "url", "video_id",
    "quality", "metadata", "attempt", "error", "created_at", "started_at", "completed_at", "expires_at", "file",
    "status_url", "download_url",
}  # fmt: skip
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


async def problem(
    service: Stand, method: str, path: str, status: int, code: str, **request: Any
) -> CIMultiDictProxy[str]:
    """Make a request that must fail in just this way; return the answer's headers."""
    async with service.client.request(method, service.url + path, **request) as response:
        assert response.status == status, await response.text()
        assert response.content_type == "application/problem+json"
        if method != "HEAD":
            document = await response.json()
            assert set(document) == {"type", "title", "status", "detail", "code"}
            assert (document["status"], document["code"]) == (status, code)
        if status in {429, 503}:
            assert int(response.headers["Retry-After"]) >= 1
        for name, value in SECURITY_HEADERS.items():
            assert response.headers.getall(name) == [value]
        return response.headers


async def test_a_link_becomes_a_track_that_can_be_fetched(service: Stand) -> None:
    event = service.converter.held[VIDEO] = asyncio.Event()
    async with service.client.post(f"{service.url}/extract", json={"url": f"https://youtu.be/{VIDEO}"}) as response:
        assert response.status == 202
        job = await response.json()
        assert response.headers["Location"] == job["status_url"] == f"/status/{job['job_id']}"
    assert set(job) == JOB_FIELDS
    assert job["status"] in {"pending", "processing"}
    assert (job["download_url"], job["file"], job["completed_at"]) == (None, None, None)
    headers = await problem(service, "GET", f"/download/{job['job_id']}.mp3", 409, "not_ready")
    assert int(headers["Retry-After"]) >= 1
    event.set()
    job = await service.ended(job["job_id"])
    assert set(job) == JOB_FIELDS
    assert (job["status"], job["stage"], job["progress"]) == ("completed", "done", 1.0)
    assert job["metadata"]["title"] == service.converter.title
    assert job["created_at"].endswith("Z")
    async with service.client.get(service.url + job["download_url"]) as response:
        assert response.status == 200
        assert await response.read() == content_of(VIDEO)
        assert response.headers["ETag"] == f'"{job["file"]["sha256"]}"'
        assert response.headers["Content-Type"] == "audio/mpeg"
        assert response.headers["Accept-Ranges"] == "bytes"
        assert "filename*=UTF-8''" in response.headers["Content-Disposition"]


async def test_a_finished_track_is_answered_with_200_and_no_second_conversion(service: Stand) -> None:
    first = await service.submit(VIDEO)
    await service.ended(first["job_id"])
    async with service.client.post(f"{service.url}/extract", json={"url": f"https://youtu.be/{VIDEO}"}) as response:
        assert response.status == 200
        second = await response.json()
    assert second["deduplicated"] is True
    assert second["job_id"] != first["job_id"]
    assert service.converter.converted == [VIDEO]


async def test_another_quality_is_another_conversion(service: Stand) -> None:
    jobs = [await service.submit(VIDEO, quality=quality) for quality in ("192k", "V0", "320k")]
    for job in jobs:
        assert (await service.ended(job["job_id"]))["deduplicated"] is False
    assert len(service.converter.converted) == 3


@pytest.mark.parametrize("code", [FailureCode.PRIVATE, FailureCode.TOO_LONG, FailureCode.MEDIA_INVALID])
async def test_a_failed_job_says_why_and_its_download_is_gone(service: Stand, code: FailureCode) -> None:
    service.converter.failing[VIDEO] = code
    job = await service.ended((await service.submit(VIDEO))["job_id"])
    assert job["status"] == "failed"
    assert isinstance(job["error"], dict)
    assert (job["error"]["code"], job["error"]["retryable"]) == (code, False)
    await problem(service, "GET", f"/download/{job['job_id']}.mp3", 410, code)


async def test_cancelling_a_job_leaves_another_on_the_same_conversion(service: Stand) -> None:
    event = service.converter.held[VIDEO] = asyncio.Event()
    first, second = await service.submit(VIDEO), await service.submit(VIDEO)
    async with service.client.delete(f"{service.url}/jobs/{first['job_id']}") as response:
        assert response.status == 200
        assert (await response.json())["status"] == "cancelled"
    await problem(service, "GET", f"/download/{first['job_id']}.mp3", 410, "cancelled")
    event.set()
    assert (await service.ended(second["job_id"]))["status"] == "completed"


async def test_the_last_cancellation_ends_the_work(service: Stand) -> None:
    service.converter.held[VIDEO] = asyncio.Event()
    job = await service.submit(VIDEO)
    async with asyncio.timeout(5):
        while not service.service.runs.active:
            await asyncio.sleep(0.01)
        async with service.client.delete(f"{service.url}/jobs/{job['job_id']}"):
            pass
        while service.service.runs.active:
            await asyncio.sleep(0.01)
    assert service.converter.converted == []
    async with service.client.delete(f"{service.url}/jobs/{job['job_id']}") as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/status/{}", "/download/{}.mp3", "/jobs/{}",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "job_id",
    [
        "0" * 34,
        "0" * 33,
        "A" * 34,
        "x",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "%0d%0aX:1",
        "%ff",
        "%e2%80%ae",
        "*",
        "' OR 1=1 --",
    ],
)
async def test_any_unknown_id_gets_the_same_404(service: Stand, path: str, job_id: str) -> None:
    method = "DELETE" if path.startswith("/jobs") else "GET"
    await problem(service, method, path.format(job_id), 404, "job_unknown")


@pytest.mark.parametrize("suffix", ["", ".MP3", ".mp3.gz", ".mp3%20", ".php", ".mp3/"])
async def test_only_the_exact_name_of_a_track_is_answered(service: Stand, suffix: str) -> None:
    job = await service.submit(VIDEO)
    await service.ended(job["job_id"])
    async with service.client.get(f"{service.url}/download/{job['job_id']}{suffix}") as response:
        assert response.status == 404


async def test_every_get_answers_head_alike_without_a_body(service: Stand) -> None:
    job = await service.submit(VIDEO)
    await service.ended(job["job_id"])
    for path in (f"/status/{job['job_id']}", f"/download/{job['job_id']}.mp3", "/health", "/health/live", "/stats"):
        async with service.client.get(service.url + path) as get, service.client.head(service.url + path) as head:
            assert (head.status, await head.read()) == (get.status, b"")
            if path.startswith(("/status", "/download")):
                assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("PUT", "/extract", "POST"), ("GET", "/extract", "POST"), ("POST", "/health", "GET, HEAD"),
     ("TRACE", "/stats", "GET, HEAD"),
     ("OPTIONS", "/extract", "POST"), ("PROPFIND", "/jobs/x", "DELETE")],
)  # fmt: skip
async def test_a_wrong_method_names_the_right_ones(service: Stand, method: str, path: str, allow: str) -> None:
    headers = await problem(service, method, path, 405, "method_not_allowed")
    assert headers["Allow"] == allow


@pytest.mark.parametrize(
    "path", ["/", "/extract/", "/EXTRACT", "/.git/config", "/.env", "/openapi.json~", "/debug", "//status/x"]
)
async def test_other_addresses_are_not_found(service: Stand, path: str) -> None:
    await problem(service, "GET", path, 404, "not_found")


async def test_health_names_each_check_and_tells_ready_from_live(tmp_path: Path) -> None:
    async with stand(tmp_path / "data") as service:
        async with service.client.get(f"{service.url}/health") as response:
            document = await response.json()
        assert (response.status, document["status"]) == (200, "ok")
        assert {"store", "storage", "ffmpeg"} <= set(document["checks"])
        drain = asyncio.create_task(drain_service(service.service, asyncio.Event()))
        await asyncio.sleep(0)
        async with service.client.get(f"{service.url}/health") as response:
            assert (response.status, (await response.json())["status"]) == (503, "draining")
        async with service.client.get(f"{service.url}/health/live") as response:
            assert response.status == 200
        await problem(service, "POST", "/extract", 503, "draining", json={"url": f"https://youtu.be/{VIDEO}"})
        await drain


async def test_metrics_and_stats_count_what_happened(service: Stand) -> None:
    await service.ended((await service.submit(VIDEO))["job_id"])
    await service.submit(VIDEO)
    async with service.client.get(f"{service.url}/metrics") as response:
        text = await response.text()
    assert 'ytmp3_jobs_total{outcome="created"} 1.0' in text
    assert 'ytmp3_jobs_total{outcome="cached"} 1.0' in text
    assert 'ytmp3_conversions_total{code="",outcome="done"} 1.0' in text
    assert 'route="/status/{job_id}"' in text
    assert VIDEO not in text
    async with service.client.get(f"{service.url}/stats") as response:
        stats = await response.json()
    assert (stats["cache_hits"], stats["dedup_hits"], stats["conversions"]["done"]) == (1, 0, 1)
    assert stats["jobs"]["completed"] == 2
    assert stats["workers"] == {"active": 0, "total": 20}


async def test_the_openapi_document_is_valid_and_lists_what_is_served(service: Stand) -> None:
    async with service.client.get(f"{service.url}/openapi.json") as response:
        document = await response.json()
    validate(document)
    served = {
        (route.method, route.resource.canonical)
        for route in service.service.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == {(route.method, route.path.replace("{job_id}.mp3", "{file_name}")) for route in ROUTES}
    assert {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "head"
    } == {(route.method, route.path) for route in ROUTES}


async def test_an_unhandled_failure_is_a_500_that_says_nothing(service: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    async def burst(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(service.service.store, "get", burst)
    await problem(service, "GET", f"/status/{'0' * 34}", 500, "internal_error")
