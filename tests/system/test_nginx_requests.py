"""Requests of every kind to a real nginx with the production files: malformed, unknown, forged, for the wrong port."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.fake_youtube.certificate import issue
from tests.stand.nginx import NGINX_FILES, Nginx, nginx_binary, write_configuration
from tests.stand.ports import free_port
from tests.stand.raw_http import exchange
from tests.system.behind_nginx import behind_nginx
from tests.system.scripted_instances import RAW_SECONDS, nginx_site
from ytmp3.http.body import MAX_BODY_BYTES


def test_nginx_accepts_the_production_files(tmp_path: Path) -> None:
    write_configuration(tmp_path, port=free_port(), upstreams=["127.0.0.1:1"], tracks=tmp_path, is_limited=True)
    command = [str(nginx_binary()), "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    tested = subprocess.run(command, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr


RAW = {
    "not HTTP": (b"GARBAGE\r\n\r\n", 400),
    "an unknown HTTP version": (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    "an unsupported HTTP version": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 400),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400),
    "an unknown transfer coding": (b"POST /extract HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: foo\r\n\r\nabc", 400),
    "two transfer codings": (
        b"POST /extract HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400,
    ),
    "a chunk without a size": (
        b"POST /extract HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400,
    ),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "two lengths": (b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "length and chunked": (
        b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
    ),
    "a broken chunk to an unknown path": (
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400,
    ),
    "a broken chunk with an unsupported method": (
        b"PUT /extract HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400,
    ),
    "a negative length": (b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "a huge body, announced": (b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
    "a NUL in a field": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400),
    "a NUL in the path": (b"GET /status/%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a path that leaves the root": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a field of 9 kB": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "a target of 9 kB": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "TRACE": (b"TRACE /health HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "CONNECT": (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 405),
    "PUT": (b"PUT /extract HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
    "PROPFIND": (b"PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "metrics": (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "stats": (b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "metrics, doubled slash": (b"GET //metrics HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "metrics, encoded": (b"GET /%6detrics HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "the folder of the tracks": (b"GET /protected-tracks/a.mp3 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "the folder of the tracks, encoded": (b"GET /protected-tracks%2fa.mp3 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "the folder, by dot segments": (b"GET /status/../protected-tracks/a.mp3 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "the error page itself": (b"GET /_problem HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a dot file": (b"GET /.git/config HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "an absolute target": (b"GET http://evil.example/nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
}  # fmt: skip


async def test_a_malformed_or_unknown_request_gets_a_problem_document(tmp_path: Path) -> None:
    async with nginx_site(tmp_path) as site:
        for name, (request, status) in RAW.items():
            closing = request.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nConnection: close\r\n", 1)
            answer = await site.raw(closing, is_all=True)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status), (name, head[:100])
            assert b"<html" not in body, name
            assert b"application/problem+json" in head, (name, head)
            assert b'"status":%d,' % status in body, (name, body)
            assert head.count(b"X-Content-Type-Options: nosniff") == 1, name
            assert head.count(b"Content-Security-Policy: ") == 1, name
            assert b"nginx/" not in head, name
        assert not site.arrived()


@pytest.mark.parametrize(
    ("target", "allow"),
    [("/extract", "POST"), ("/extract?x", "POST"), ("/jobs/x", "DELETE"), ("/status/x", "GET, HEAD"),
     ("http://x/extract", "POST"), ("/extract/x", "GET, HEAD"), ("/download/x.mp3", "GET, HEAD")],
)  # fmt: skip
async def test_the_response_to_an_unknown_method_lists_the_methods_of_the_path(
    tmp_path: Path, target: str, allow: str
) -> None:
    """The service itself does the same (RFC 9110, section 15.5.6)."""
    async with nginx_site(tmp_path) as site:
        answer = await site.raw(f"PUT {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert f"\r\nAllow: {allow}\r\n".encode() in answer


async def test_a_client_that_closes_only_its_own_direction_gets_its_response(tmp_path: Path) -> None:
    async with nginx_site(tmp_path) as site:
        for line in (b"GET /status/x", b"GET /nowhere", b"POST /extract"):
            request = line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            answer = await exchange("127.0.0.1", site.nginx.port, request, seconds=RAW_SECONDS, is_all=True)
            assert re.match(rb"HTTP/1\.1 (200|404) ", answer), line


async def test_plain_http_to_the_tls_port_is_a_problem_document_with_400(tmp_path: Path) -> None:
    nginx = Nginx(tmp_path / "nginx", free_port())
    write_configuration(nginx.folder, port=nginx.port, upstreams=["127.0.0.1:1"], tracks=tmp_path, is_limited=True)
    issue(tmp_path)
    listen = (NGINX_FILES / "tls.conf.example").read_text()
    for there, here in {
        "8443 ssl default_server reuseport": f"127.0.0.1:{nginx.port} ssl",
        "/etc/nginx/tls/fullchain.pem": f"{tmp_path}/server.pem",
        "/etc/nginx/tls/privkey.pem": f"{tmp_path}/server.key",
    }.items():
        assert there in listen
        listen = listen.replace(there, here)
    (nginx.folder / "listen.conf").write_text(re.sub(r"listen \[::\].*\n", "", listen))
    await nginx.start()
    try:
        answer = await exchange("127.0.0.1", nginx.port, RAW["metrics"][0], seconds=RAW_SECONDS)
    finally:
        await nginx.stop()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert b'"code":"bad_request"' in answer


@pytest.mark.parametrize("line", [b"GET /nowhere\r\n", b"HEAD /metrics\r\n", b"PUT /extract\r\n"])
async def test_a_request_line_without_a_version_gets_a_problem_without_a_head(tmp_path: Path, line: bytes) -> None:
    async with nginx_site(tmp_path) as site:
        assert (await site.raw(line)).startswith(b'{"type":"urn:ytmp3:error:')


@pytest.mark.parametrize("path", ["/status", "/jobs", "/download", "/protected-tracks", "/health/", "/extract/"])
async def test_nginx_never_redirects(tmp_path: Path, path: str) -> None:
    async with nginx_site(tmp_path) as site:
        answer = await site.raw(f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode())
        assert re.match(rb"HTTP/1\.1 (200|404) ", answer)
        assert b"evil" not in answer


async def test_the_answer_to_a_wrong_path_names_the_right_one_behind_nginx_too(tmp_path: Path) -> None:
    async with behind_nginx(tmp_path) as site:
        for method, path in (("GET", "/extract/"), ("GET", "/extract"), ("POST", "/status/x"), ("GET", "/jobs/x")):
            async with site.service.client.request(method, site.url + path) as response:
                problem = await response.json()
            assert response.headers["Content-Type"] == "application/problem+json"
            assert (response.status, problem["status"]) in {(404, 404), (405, 405)}
            assert " Try " in problem["detail"], path


async def test_headers_come_once_and_forged_proxy_headers_are_replaced(tmp_path: Path) -> None:
    async with nginx_site(tmp_path) as site:
        forged = {
            "X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Request-Id": "forged-forged",
            "X-HTTP-Method-Override": "DELETE", "X-Accel-Redirect": "/protected-tracks/a.mp3",
        }  # fmt: skip
        async with site.client.get(f"{site.nginx.url}/status/x", headers=forged) as response:
            assert response.status == 200
            assert response.headers.getall("X-Content-Type-Options") == ["nosniff"]
            assert "nginx/" not in response.headers["Server"]
            request_id = response.headers["X-Request-Id"]
        (seen,) = [headers for instance in site.instances for headers in instance.headers]
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert seen["x-request-id"] == request_id != "forged-forged"
        assert "forwarded" not in seen
        assert "x-http-method-override" not in seen


POST_HEAD = b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def chunked(body: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


async def test_a_body_may_be_as_large_as_the_service_accepts_and_no_larger(tmp_path: Path) -> None:
    async with nginx_site(tmp_path) as site:
        for size, status in ((MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)):
            body = b"x" * size
            for rest in (b"Content-Length: %d\r\n\r\n%s" % (size, body), chunked(body)):
                answer = await site.raw(POST_HEAD + b"Connection: close\r\n" + rest)
                assert answer.startswith(b"HTTP/1.1 %d " % status), (size, answer)
                assert status == 200 or b'"code":"body_too_large"' in answer
        assert site.arrived() == {("POST", "/extract"): 2}
