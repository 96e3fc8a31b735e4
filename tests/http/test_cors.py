"""Calls from web pages of other origins (CORS)."""

from pathlib import Path

from tests.http.responses import expect_problem
from tests.http.running_service import running_service

ORIGIN = "https://app.example"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


async def test_without_listed_origins_no_page_of_another_origin_is_allowed(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        await expect_problem(service, "OPTIONS", "/extract", 405, "method_not_allowed", headers=PREFLIGHT)
        async with service.client.get(f"{service.url}/stats", headers={"Origin": ORIGIN}) as response:
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_listed_origin_is_allowed_without_credentials_and_no_other_is(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", CORS_ORIGINS=ORIGIN) as service:
        async with service.client.options(f"{service.url}/extract", headers=PREFLIGHT) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "Access-Control-Allow-Credentials" not in response.headers
        another = PREFLIGHT | {"Origin": "https://evil.example"}
        await expect_problem(service, "OPTIONS", "/extract", 405, "method_not_allowed", headers=another)


async def test_a_preflight_with_a_malformed_host_is_a_400(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", CORS_ORIGINS=ORIGIN) as service:
        headers = PREFLIGHT | {"Host": "x y"}
        await expect_problem(service, "OPTIONS", "/extract", 400, "bad_request", headers=headers)


async def test_a_page_of_a_listed_origin_can_play_and_read_a_track(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", CORS_ORIGINS=ORIGIN) as service:
        url = service.url + (await service.completed("dQw4w9WgXcQ"))["download_url"]
        # A browser sends no Origin for <audio src>.
        async with service.client.get(url) as response:
            assert response.headers.getall("Cross-Origin-Resource-Policy") == ["cross-origin"]
        async with service.client.get(url, headers={"Origin": ORIGIN, "Range": "bytes=0-1"}) as response:
            assert response.status == 206
            assert response.headers.getall("Cross-Origin-Resource-Policy") == ["cross-origin"]
            assert {"Content-Range", "ETag"} <= set(response.headers["Access-Control-Expose-Headers"].split(", "))
        async with service.client.get(url, headers={"Origin": "https://evil.example"}) as response:
            assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        async with service.client.get(f"{service.url}/stats") as response:
            assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_without_listed_origins_a_track_is_for_its_own_origin(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        url = service.url + (await service.completed("dQw4w9WgXcQ"))["download_url"]
        async with service.client.get(url) as response:
            assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
