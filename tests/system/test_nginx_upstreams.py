"""A real nginx with the production files in front of instances that are full, absent, broken, or sending a track."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.system.scripted_instances import LARGE, LINK, nginx_site


async def test_a_post_that_a_full_instance_refuses_is_passed_to_the_next_instance(tmp_path: Path) -> None:
    async with nginx_site(tmp_path) as site:
        site.instances[0].behaviour = "full"
        for _ in range(10):
            async with site.client.post(f"{site.nginx.url}/extract", json=LINK) as response:
                assert (response.status, (await response.json())["instance"]) == (200, "second")
        site.instances[1].behaviour = "full"
        async with site.client.post(f"{site.nginx.url}/extract", json=LINK) as response:
            assert (response.status, (await response.json())["code"]) == (503, "queue_full")
            assert response.headers["Retry-After"] == "7"


async def test_only_a_batch_with_an_idempotency_key_is_passed_to_the_next_instance(tmp_path: Path) -> None:
    batch = {"urls": [LINK["url"]] * 4000}
    key = {"Idempotency-Key": "k"}
    async with nginx_site(tmp_path) as site:
        url = f"{site.nginx.url}/batches"
        for behaviour in ("full", "cut", "invalid"):
            site.instances[0].behaviour = behaviour
            for _ in range(4):
                async with site.client.post(url, json=batch, headers=key) as response:
                    assert (response.status, (await response.json())["instance"]) == (200, "second")
        assert set(site.arrived()) == {("POST", "/batches")}
        assert all(each["idempotency-key"] == "k" for instance in site.instances for each in instance.headers)
        assert all(int(each["content-length"]) > 100_000 for each in site.instances[1].headers)
        site.behave("cut")
        before = site.arrived().total()
        async with site.client.post(url, json=batch) as response:
            assert response.status == 503
        assert site.arrived().total() == before + 1
        async with site.client.post(url, json=batch, headers=key) as response:
            assert (response.status, (await response.json())["code"]) == (503, "unavailable")
        assert site.arrived().total() <= before + 3
        async with site.client.post(url, json=batch | {"x": "x" * 200_000}, headers=key) as response:
            assert (response.status, (await response.json())["code"]) == (413, "body_too_large")


async def test_an_instance_that_is_down_fails_no_request(tmp_path: Path) -> None:
    async with nginx_site(tmp_path, absent=1) as site:
        for _ in range(30):
            async with site.client.post(f"{site.nginx.url}/extract", json=LINK) as response:
                assert response.status == 200
        assert site.arrived() == {("POST", "/extract"): 30}


@pytest.mark.parametrize("behaviour", ["cut", "invalid"])
async def test_an_instance_with_broken_responses_disables_no_other_instance(tmp_path: Path, behaviour: str) -> None:
    async with nginx_site(tmp_path) as site:
        site.instances[0].behaviour = behaviour
        for _ in range(20):
            async with site.client.get(f"{site.nginx.url}/status/x") as response:
                assert (response.status, (await response.json())["instance"]) == (200, "second")


async def test_a_post_is_sent_to_each_instance_at_most_once(tmp_path: Path) -> None:
    async with nginx_site(tmp_path) as site:
        site.behave("cut")
        async with site.client.post(f"{site.nginx.url}/extract", json=LINK) as response:
            assert response.status == 503
        # After a lost connection nginx may try each other instance once: both jobs would share one conversion.
        assert max(len(instance.requests) for instance in site.instances) == 1


async def test_without_a_working_instance_the_response_is_a_problem_document_with_retry_after(tmp_path: Path) -> None:
    async with nginx_site(tmp_path) as site:
        site.behave("cut")
        async with site.client.get(f"{site.nginx.url}/status/x") as response:
            assert (response.status, response.content_type) == (503, "application/problem+json")
            assert (await response.json())["code"] == "unavailable"
            assert int(response.headers["Retry-After"]) >= 1


async def test_nginx_sends_a_track_with_the_etag_of_the_service(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    async with nginx_site(tmp_path) as site:
        (site.tracks / "a.mp3").write_bytes(content)
        site.behave("track")
        cases: list[tuple[dict[str, str], int, bytes]] = [
            ({}, 200, content),
            ({"Range": "bytes=5-9"}, 206, content[5:10]),
            ({"Range": "bytes=-5"}, 206, content[-5:]),
            ({"Range": "bytes=5-9", "If-Range": '"tag"'}, 206, content[5:10]),
            ({"Range": "bytes=5-9", "If-Range": '"other"'}, 200, content),
            ({"Range": "bytes=5-9", "If-Range": 'W/"tag"'}, 200, content),
            ({"Range": "items=5-9"}, 200, content),
            ({"Range": "bytes=" + ",".join("0-" for _ in range(300))}, 200, content),
        ]
        for headers, status, body in cases:
            async with site.client.get(f"{site.nginx.url}/download/x.mp3", headers=headers) as response:
                assert (response.status, await response.read()) == (status, body), headers
                assert response.headers.getall("ETag") == ['"tag"']
                assert response.headers.getall("X-Content-Type-Options") == ["nosniff"]
                assert response.headers["Content-Type"] == "audio/mpeg"
                assert "X-Accel-Redirect" not in response.headers


async def test_a_failure_inside_nginx_is_a_problem_document_with_503(tmp_path: Path) -> None:
    async with nginx_site(tmp_path) as site:
        site.behave("track")
        # A socket stands in the place of the track: it exists and cannot be opened as a file.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(site.tracks / "a.mp3"))
            async with site.client.get(f"{site.nginx.url}/download/x.mp3") as response:
                assert (response.status, response.content_type) == (503, "application/problem+json")
                assert (await response.json())["status"] == 503
                assert int(response.headers["Retry-After"]) >= 1


async def test_a_precondition_that_nginx_finds_failed_is_a_problem_document(tmp_path: Path) -> None:
    async with nginx_site(tmp_path) as site:
        (site.tracks / "a.mp3").write_bytes(b"track")
        site.behave("track")
        past = {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}
        async with site.client.get(f"{site.nginx.url}/download/x.mp3", headers=past) as response:
            assert (response.status, response.content_type) == (412, "application/problem+json")
            assert (await response.json())["code"] == "precondition_failed"


async def test_a_track_that_the_service_sends_itself_is_not_buffered_for_a_slow_reader(tmp_path: Path) -> None:
    """Some preconditions nginx judges wrongly: then the service sends the track itself (http/download.py)."""
    loop = asyncio.get_running_loop()
    async with nginx_site(tmp_path) as site:
        site.behave("large")
        with site.slow_reader(b"GET /download/x.mp3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as reader:
            received = bytearray()
            while piece := await loop.sock_recv(reader, 4_000_000):
                received += piece
        assert received.partition(b"\r\n\r\n")[2] == LARGE
        assert "temporary file" not in site.nginx.error_log()
