"""The routes, the JSON of a job, and the problem documents, as docs/api.md describes them."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from openapi_spec_validator import validate

from tests.fakes import content_of
from tests.http.responses import expect_problem
from tests.http.running_service import TITLE, RunningService, running_service
from tests.stand.waiting import until
from ytmp3.core.breaker import PAUSES, UNREACHED_TO_OPEN
from ytmp3.core.errors import FailureCode, StoreDown
from ytmp3.http.problems import ERROR_OF_STATUS, response_of_status
from ytmp3.http.routes import ROUTES
from ytmp3.http.stats_wire import StatsView
from ytmp3.http.wire import HealthView, JobView, LiveView, Problem
from ytmp3.serve import drain

VIDEO = "dQw4w9WgXcQ"
LINK = {"url": f"https://youtu.be/{VIDEO}"}
JOB_FIELDS = [field.name for field in msgspec.structs.fields(JobView)]


async def test_a_link_becomes_a_track_that_can_be_downloaded(service: RunningService) -> None:
    may_convert = service.converter.hold(VIDEO)
    async with service.client.post(f"{service.url}/extract", json=LINK) as response:
        assert response.status == 202
        job = await response.json()
        assert response.headers["Location"] == job["status_url"] == f"/status/{job['job_id']}"
    assert list(job) == JOB_FIELDS
    assert job["status"] in {"pending", "processing"}
    assert (job["download_url"], job["file"], job["completed_at"]) == (None, None, None)
    headers = await expect_problem(service, "GET", f"/download/{job['job_id']}.mp3", 409, "not_ready")
    assert int(headers["Retry-After"]) >= 1
    may_convert.set()
    job = await service.ended(job["job_id"])
    assert list(job) == JOB_FIELDS
    assert (job["status"], job["stage"], job["progress"]) == ("completed", "done", 1.0)
    assert job["metadata"]["title"] == TITLE
    assert job["created_at"].endswith("Z")
    async with service.client.get(service.url + job["download_url"]) as response:
        assert response.status == 200
        assert await response.read() == content_of(VIDEO)
        assert response.headers["ETag"] == f'"{job["file"]["sha256"]}"'
        assert response.headers["Content-Type"] == "audio/mpeg"
        assert response.headers["Accept-Ranges"] == "bytes"
        assert "filename*=UTF-8''" in response.headers["Content-Disposition"]


@pytest.mark.parametrize(("format_", "media_type"), [("m4a", "audio/mp4"), ("opus", "audio/ogg")])
async def test_a_copy_has_its_own_job_extension_and_media_type(
    service: RunningService, format_: str, media_type: str
) -> None:
    copy, mp3 = await service.submit(VIDEO, format=format_), await service.submit(VIDEO)
    assert (copy["format"], copy["quality"], copy["deduplicated"]) == (format_, None, False)
    assert (mp3["format"], mp3["quality"], mp3["deduplicated"]) == ("mp3", "192k", False)
    assert (await service.submit(VIDEO, format=format_.upper()))["deduplicated"] is True
    job = await service.ended(copy["job_id"])
    assert job["download_url"] == f"/download/{copy['job_id']}.{format_}"
    async with service.client.get(service.url + job["download_url"]) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == media_type
        assert f".{format_}" in response.headers["Content-Disposition"]
        assert await response.read() == content_of(VIDEO)
    await expect_problem(service, "GET", f"/download/{copy['job_id']}.mp3", 404, "not_found")


async def test_a_link_whose_track_is_finished_is_answered_with_200_and_converts_nothing(
    service: RunningService,
) -> None:
    first = await service.completed(VIDEO)
    async with service.client.post(f"{service.url}/extract", json=LINK) as response:
        assert response.status == 200
        second = await response.json()
    assert second["deduplicated"] is True
    assert second["job_id"] != first["job_id"]
    assert service.converter.order == [VIDEO]


async def test_another_quality_of_a_video_is_another_conversion(service: RunningService) -> None:
    jobs = [await service.submit(VIDEO, quality=quality) for quality in ("192k", "V0", "320k")]
    for job in jobs:
        assert (await service.ended(job["job_id"]))["deduplicated"] is False
    assert service.converter.order == [VIDEO] * 3


@pytest.mark.parametrize("code", [FailureCode.PRIVATE, FailureCode.TOO_LONG, FailureCode.MEDIA_INVALID])
async def test_a_failed_job_says_why_and_its_download_is_gone(service: RunningService, code: FailureCode) -> None:
    service.converter.fail(VIDEO, code)
    job = await service.ended((await service.submit(VIDEO))["job_id"])
    assert job["status"] == "failed"
    assert (job["error"]["code"], job["error"]["retryable"]) == (code, False)
    await expect_problem(service, "GET", f"/download/{job['job_id']}.mp3", 410, code)


async def test_cancelling_a_job_leaves_another_job_of_the_same_conversion(service: RunningService) -> None:
    may_convert = service.converter.hold(VIDEO)
    first, second = await service.submit(VIDEO), await service.submit(VIDEO)
    async with service.client.delete(f"{service.url}/jobs/{first['job_id']}") as response:
        assert response.status == 200
        assert (await response.json())["status"] == "cancelled"
    await expect_problem(service, "GET", f"/download/{first['job_id']}.mp3", 410, "cancelled")
    may_convert.set()
    assert (await service.ended(second["job_id"]))["status"] == "completed"


async def test_cancelling_the_last_job_of_a_conversion_stops_it(service: RunningService) -> None:
    service.converter.hold(VIDEO)
    job = await service.submit(VIDEO)
    await until(lambda: service.parts.runs.active == 1, "the conversion runs")
    for _ in range(2):  # repeating it is harmless
        async with service.client.delete(f"{service.url}/jobs/{job['job_id']}") as response:
            assert response.status == 200
    await until(lambda: service.parts.runs.active == 0, "the conversion has stopped")
    assert (service.converter.cancelled[VIDEO], service.converter.converted) == (1, [])


@pytest.mark.parametrize("path", ["/status/{}", "/download/{}.mp3", "/jobs/{}"])
@pytest.mark.parametrize(
    "job_id",
    ["0" * 34, "0" * 33, "A" * 34, "x", "..%2f..%2fetc%2fpasswd", "%00", "%0d%0aX:1", "%ff", "%e2%80%ae", "*",
     "' OR 1=1 --"],
)  # fmt: skip
async def test_every_unknown_or_malformed_id_gets_the_same_404(service: RunningService, path: str, job_id: str) -> None:
    method = "DELETE" if path.startswith("/jobs") else "GET"
    await expect_problem(service, method, path.format(job_id), 404, "job_unknown")


async def test_a_download_without_an_extension_is_the_track(service: RunningService) -> None:
    job = await service.completed(VIDEO)
    async with (
        service.client.get(service.url + job["download_url"]) as usual,
        service.client.get(f"{service.url}/download/{job['job_id']}") as short,
    ):
        assert (short.status, await short.read()) == (200, await usual.read())
        assert short.headers["Content-Disposition"] == usual.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("POST", "/extract/", "POST /extract with a JSON body"), ("GET", "/extract", "POST /extract with a JSON body"),
        ("GET", "/jobs/x", "GET /status/ID or DELETE /jobs/ID"), ("GET", "/status", "GET /status/ID"),
        ("GET", "/status/x/", "GET /status/ID"), ("GET", "/download", "GET /download/ID.mp3"),
        ("GET", "/health/", "GET /health or GET /health/live"), ("DELETE", "/stats", "GET /stats"),
        ("GET", "/nowhere", "GET /openapi.json lists all addresses"),
    ],
)  # fmt: skip
async def test_the_response_to_a_wrong_path_or_method_names_similar_routes(
    service: RunningService, method: str, path: str, named: str
) -> None:
    async with service.client.request(method, service.url + path) as response:
        assert response.status in {404, 405}
        assert named in (await response.json())["detail"]


async def test_the_response_to_a_wrong_extension_names_the_right_one(service: RunningService) -> None:
    job = await service.completed(VIDEO)
    async with service.client.get(f"{service.url}/download/{job['job_id']}.m4a") as response:
        assert response.status == 404
        assert "/download/ID.mp3" in (await response.json())["detail"]


@pytest.mark.parametrize("suffix", [".", ".MP3", ".mp3.gz", ".mp3%20", ".php", ".mp3/"])
async def test_a_download_needs_the_exact_extension(service: RunningService, suffix: str) -> None:
    job = await service.completed(VIDEO)
    async with service.client.get(f"{service.url}/download/{job['job_id']}{suffix}") as response:
        assert response.status == 404


async def test_every_get_route_has_the_same_response_to_head_without_a_body(service: RunningService) -> None:
    job = await service.completed(VIDEO)
    for path in (job["status_url"], job["download_url"], "/health", "/health/live", "/stats"):
        async with service.client.get(service.url + path) as get, service.client.head(service.url + path) as head:
            assert (head.status, await head.read()) == (get.status, b"")
            if path.startswith(("/status", "/download")):
                assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("PUT", "/extract", "POST"), ("GET", "/extract", "POST"), ("POST", "/health", "GET, HEAD"),
     ("TRACE", "/stats", "GET, HEAD"), ("OPTIONS", "/extract", "POST"), ("PROPFIND", "/jobs/x", "DELETE")],
)  # fmt: skip
async def test_a_405_lists_the_methods_of_the_address(
    service: RunningService, method: str, path: str, allow: str
) -> None:
    headers = await expect_problem(service, method, path, 405, "method_not_allowed")
    assert headers["Allow"] == allow


@pytest.mark.parametrize(
    "path", ["/extract/", "/EXTRACT", "/.git/config", "/.env", "/openapi.json~", "/debug", "//status/x"]
)
async def test_an_address_without_a_route_is_not_found(service: RunningService, path: str) -> None:
    await expect_problem(service, "GET", path, 404, "not_found")


async def test_health_names_each_check_and_a_draining_instance_is_live_but_not_ready(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        async with service.client.get(f"{service.url}/health") as response:
            document = await response.json()
        assert (response.status, document["status"]) == (200, "ok")
        assert {"store", "storage", "ffmpeg"} <= set(document["checks"])
        draining = asyncio.create_task(drain(service.parts, asyncio.Event()))
        await until(lambda: service.parts.health.is_draining, "the instance drains")
        async with service.client.get(f"{service.url}/health") as response:
            assert (response.status, (await response.json())["status"]) == (503, "draining")
            assert int(response.headers["Retry-After"]) >= 1
        async with service.client.get(f"{service.url}/health/live") as response:
            assert response.status == 200
        await expect_problem(service, "POST", "/extract", 503, "draining", json=LINK)
        await draining


async def test_an_instance_that_cannot_reach_youtube_says_so_and_stays_ready(service: RunningService) -> None:
    videos = [f"video{number:06d}" for number in range(UNREACHED_TO_OPEN)]
    for video in videos:
        service.converter.failing[video] = FailureCode.UPSTREAM_UNREACHABLE
        async with service.client.post(f"{service.url}/extract", json={"url": f"https://youtu.be/{video}"}) as response:
            job = await response.json()
    await until(lambda: not service.parts.health.upstream.ok, "new starts are paused")
    async with service.client.get(f"{service.url}/health") as response:
        health = await response.json()
        assert (response.status, health["status"], health["checks"]["upstream"]["ok"]) == (200, "degraded", False)
    async with service.client.get(f"{service.url}/stats") as response:
        upstream = (await response.json())["upstream"]
        assert (upstream["cause"], upstream["state"] in {"open", "half_open"}) == ("network", True)
    async with service.client.get(f"{service.url}/metrics") as response:
        text = await response.text()
    paused = {cause: f'ytmp3_upstream_paused{{cause="{cause}"}} {float(cause == "network")}' for cause in PAUSES}
    assert [cause for cause, line in paused.items() if line not in text] == []
    assert "ytmp3_ready 1.0" in text

    async def has_failed_once() -> bool:
        async with service.client.get(f"{service.url}/status/{job['job_id']}") as response:
            job.update(await response.json())
        return job["error"] is not None

    # The pause begins before the record of the failure is written.
    await until(has_failed_once, "the last job has failed and waits")
    assert (job["status"], job["attempt"], job["error"]["code"]) == ("pending", 0, "upstream_unreachable")


async def test_metrics_and_stats_count_what_happened(service: RunningService) -> None:
    await service.completed(VIDEO)
    await service.submit(VIDEO)
    await until(lambda: service.parts.runs.active == 0, "the worker is idle again")
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


@pytest.mark.parametrize(("path", "view"), [("/health", HealthView), ("/health/live", LiveView), ("/stats", StatsView)])
async def test_a_response_decodes_into_its_wire_type_and_encodes_to_the_same_bytes(
    service: RunningService, path: str, view: type[msgspec.Struct]
) -> None:
    async with service.client.get(service.url + path) as response:
        body = await response.read()
    assert msgspec.json.encode(msgspec.json.decode(body, type=view)) == msgspec.json.format(body, indent=-1)


async def test_stats_are_indented_and_say_what_was_counted_since_the_start(service: RunningService) -> None:
    await service.completed(VIDEO)
    async with service.client.get(f"{service.url}/stats") as response:
        text = await response.text()
        stats = await response.json()
    assert text.startswith('{\n  "uptime_seconds": ')
    assert text.endswith("}\n")
    assert stats["since_start"]["conversions"] == stats["conversions"]
    assert (stats["since_start"]["joined_jobs"], stats["since_start"]["cached_jobs"]) == (0, 0)
    assert stats["processing_seconds"]["mean"] == round(stats["processing_seconds"]["mean"], 3)


async def test_a_known_path_with_a_wrong_method_is_counted_under_its_route(service: RunningService) -> None:
    for method, path in (("GET", "/extract"), ("POST", "/status/abc"), ("GET", "/nowhere")):
        await service.client.request(method, service.url + path)
    async with service.client.get(f"{service.url}/metrics") as response:
        text = await response.text()
    assert 'ytmp3_http_requests_total{method="GET",route="/extract",status="405"} 1.0' in text
    assert 'ytmp3_http_requests_total{method="POST",route="/status/{job_id}",status="405"} 1.0' in text
    assert 'ytmp3_http_requests_total{method="GET",route="unknown",status="404"} 1.0' in text


async def test_metrics_begin_at_zero_and_name_the_versions_of_the_tools(service: RunningService) -> None:
    async with service.client.get(f"{service.url}/metrics") as response:
        text = await response.text()
    assert "_created" not in text
    for series in (
        'ytmp3_jobs_total{outcome="joined"}',
        'ytmp3_conversions_total{code="upstream_error",outcome="failed"}',
        'ytmp3_conversion_retries_total{code="upstream_error"}',
        'ytmp3_rejections_total{code="queue_full"}',
        'ytmp3_rejections_total{code="rate_limited"}',
        'ytmp3_store_errors_total{kind="StoreDown"}',
        'ytmp3_conversion_stage_duration_seconds_count{stage="publishing"}',
    ):
        assert f"{series} 0.0\n" in text
    (build,) = (line for line in text.splitlines() if line.startswith("ytmp3_build_info{"))
    for tool in service.parts.health.tools:
        assert f'{tool.name.replace("-", "_")}="{tool.version}"' in build


async def test_stats_have_no_job_counts_while_the_store_does_not_reply(service: RunningService) -> None:
    service.store.broken["counts"] = StoreDown("no answer")
    async with service.client.get(f"{service.url}/stats") as response:
        assert (response.status, (await response.json())["jobs"]) == (200, None)


async def test_the_openapi_document_is_valid_and_lists_exactly_what_is_served(service: RunningService) -> None:
    async with service.client.get(f"{service.url}/openapi.json") as response:
        document = await response.json()
    validate(document)
    served = [
        (route.method, route.resource.canonical)
        for route in service.parts.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    ]
    # The routes of the page follow those of the API. They are for browsers, so the document leaves them out.
    served = served[: len(ROUTES)]
    assert served == [(route.method, route.pattern.replace(":[^/]+", "")) for route in ROUTES]
    documented = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "head"
    }
    assert documented == {(route.method, route.path) for route in ROUTES}


def test_every_status_that_the_library_finds_by_itself_has_an_error_of_that_status() -> None:
    assert {status: int(kind.status) for status, kind in ERROR_OF_STATUS.items()} == {
        status: status for status in ERROR_OF_STATUS
    }


@pytest.mark.parametrize(("status", "expected"), [(404, 404), (408, 408), (411, 400), (500, 500), (505, 500)])
def test_a_failure_of_the_library_gets_the_problem_document_of_its_status(status: int, expected: int) -> None:
    response = response_of_status(status)
    assert isinstance(response.body, bytes)
    assert response.status == msgspec.json.decode(response.body, type=Problem).status == expected


async def test_an_unexpected_exception_gives_a_500_without_its_text(
    service: RunningService, caplog: pytest.LogCaptureFixture
) -> None:
    service.store.broken["get"] = RuntimeError("secret detail")
    async with service.client.get(f"{service.url}/status/{'0' * 34}") as response:
        assert response.status == 500
        assert "secret detail" not in await response.text()
    assert "secret detail" in caplog.text
    await expect_problem(service, "GET", f"/status/{'0' * 34}", 500, "internal_error")
