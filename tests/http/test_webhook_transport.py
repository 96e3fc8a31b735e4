"""One request to a webhook endpoint: it reaches no address that it must not, and no response holds it up."""

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.fake_youtube.certificate import issue
from tests.http.webhook_servers import ScriptedResolver, raw_server, receiver
from tests.stand.ports import free_port
from ytmp3.core.webhook import Reason
from ytmp3.setting_forms import private_hosts
from ytmp3.webhooks.settings import PrivateHosts
from ytmp3.webhooks.transport import HttpTransport, Reply

NONE = PrivateHosts()
HEADERS = {"webhook-id": "job-0"}
BODY = b'{"type":"job.completed"}'


def hosts(text: str) -> PrivateHosts:
    names, networks = private_hosts(text)
    return PrivateHosts(names=names, networks=networks)


LOCAL = hosts("127.0.0.1")

LOOPBACK_SPELLINGS = (
    "127.0.0.1", "127.1", "127.0.0.1.", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0",
    "0.0.0.0", "localhost", "localhost.", "LOCALHOST", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]",
)  # fmt: skip
"""Spellings of this machine's address, and of addresses that lead to it by a translation or a tunnel."""
PRIVATE_ADDRESSES = (
    "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "[fd00:ec2::254]", "[fc00::1]", "224.0.0.1", "255.255.255.255",
)  # fmt: skip


async def post(
    url: str, allowed: PrivateHosts = NONE, *, seconds: float = 60.0, tls: ssl.SSLContext | None = None
) -> Reply:
    async with HttpTransport(allowed, seconds=seconds, tls=tls) as transport:
        return await transport.post(url, HEADERS, BODY)


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
async def test_no_spelling_of_this_machine_is_connected_to(host: str) -> None:
    port = free_port()
    async with raw_server(host="127.0.0.1", port=port) as server, raw_server(host="::1", port=port) as server6:
        reply = await post(f"https://{host}:{server.port}/")
        assert (server.connections, server6.connections) == (0, 0)
        assert reply.status is None
        assert reply.reason in {Reason.ADDRESS, Reason.CONNECTION}


@pytest.mark.parametrize("host", PRIVATE_ADDRESSES)
async def test_a_private_address_is_refused_before_anything_is_sent(host: str) -> None:
    assert await post(f"https://{host}/") == Reply(status=None, reason=Reason.ADDRESS)


async def test_a_name_that_has_only_private_addresses_is_refused() -> None:
    async with raw_server() as server:
        resolver = ScriptedResolver(["127.0.0.1", "::1", "10.0.0.1", "localhost"])
        async with HttpTransport(NONE, resolver=resolver) as transport:
            reply = await transport.post(f"https://hook.example:{server.port}/", HEADERS, BODY)
        assert reply == Reply(status=None, reason=Reason.ADDRESS)
        assert (server.connections, resolver.asked) == (0, ["hook.example"])


async def test_a_name_whose_addresses_change_is_checked_at_each_connection() -> None:
    """127.0.0.2 stands for a public address here, and 127.0.0.1 for a private one."""
    port = free_port()
    async with raw_server(host="127.0.0.2", port=port) as public, raw_server(host="127.0.0.1", port=port) as private:
        resolver = ScriptedResolver(["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.1"])
        async with HttpTransport(NONE, resolver=resolver, is_allowed="127.0.0.2".__eq__) as transport:
            replies = [await transport.post(f"https://hook.example:{port}/", HEADERS, BODY) for _ in range(4)]
        assert len(resolver.asked) == 4, "no answer is used for a later connection"
        # After a failed handshake, aiohttp tries the other addresses of a name once more.
        assert public.connections >= 2
        assert private.connections == 0
        assert [reply.reason is Reason.ADDRESS for reply in replies] == [False, True, False, True]


async def test_a_listed_host_is_reached_without_tls() -> None:
    async with receiver() as endpoint:
        reply = await post(endpoint.url, LOCAL)
        assert reply == Reply(status=204, reason=None)
        (message,) = endpoint.messages
        assert message.body == BODY
        assert message.headers["webhook-id"] == "job-0"
        assert message.headers["content-type"] == "application/json"
        assert message.headers["user-agent"].startswith("ytmp3/")


async def test_a_url_that_the_settings_no_longer_allow_is_not_asked() -> None:
    async with receiver() as endpoint:
        assert await post(endpoint.url) == Reply(status=None, reason=Reason.ADDRESS)
        assert endpoint.messages == []


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server() as proxy, receiver() as endpoint:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await post(endpoint.url, LOCAL)).status == 204
        assert proxy.connections == 0


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    async with raw_server() as elsewhere:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:{elsewhere.port}/\r\n\r\n".encode())

        async with raw_server(redirect) as server:
            reply = await post(f"http://127.0.0.1:{server.port}/", LOCAL)
            assert reply == Reply(status=status, reason=Reason.REDIRECT)
            assert (server.connections, elsewhere.connections) == (1, 0)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("HTTP/1.1 200 OK", Reply(status=200, reason=None)),
        ("HTTP/1.1 299 OK", Reply(status=299, reason=None)),
        ("HTTP/1.1 404 No", Reply(status=404, reason=Reason.STATUS)),
        ("HTTP/1.1 410 Gone", Reply(status=410, reason=Reason.GONE)),
        ("HTTP/1.1 429 No\r\nRetry-After: 120", Reply(status=429, reason=Reason.STATUS, retry_after_seconds=120.0)),
        ("HTTP/1.1 503 No\r\nRetry-After: -1", Reply(status=503, reason=Reason.STATUS)),
        ("HTTP/1.1 503 No\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT", Reply(status=503, reason=Reason.STATUS)),
        ("nonsense", Reply(status=None, reason=Reason.CONNECTION)),
        ("HTTP/1.1 200 OK\r\nX: " + "x" * 100_000, Reply(status=None, reason=Reason.CONNECTION)),
        ("HTTP/1.1 200 OK" + "\r\nX: y" * 10_000, Reply(status=None, reason=Reason.CONNECTION)),
    ],
    ids=["200", "299", "404", "410", "429", "negative wait", "date", "nonsense", "long field", "many fields"],
)
async def test_a_response_is_judged_by_its_header(header: str, expected: Reply) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{header}\r\n\r\n".encode())
        await writer.drain()

    async with raw_server(respond) as server:
        assert await post(f"http://127.0.0.1:{server.port}/", LOCAL) == expected


async def test_an_endless_body_is_not_read() -> None:
    written = 0
    was_closed = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"10000\r\n" + bytes(65_536) + b"\r\n")
                await writer.drain()
                written += 65_536
        except OSError:
            was_closed.set()

    async with raw_server(flood) as server:
        assert await post(f"http://127.0.0.1:{server.port}/", LOCAL) == Reply(status=200, reason=None)
        await asyncio.wait_for(was_closed.wait(), 60)
    # What the kernel's buffers of both sides hold.
    assert written < 50_000_000


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_response_that_does_not_end_its_header_in_time_is_a_timeout(beginning: bytes) -> None:
    stopped = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        await stopped.wait()

    async with raw_server(drip) as server:
        reply = await post(f"http://127.0.0.1:{server.port}/", LOCAL, seconds=0.2)
        stopped.set()
        assert reply == Reply(status=None, reason=Reason.TIMEOUT)


async def test_a_connection_that_is_closed_or_refused_is_a_failure() -> None:
    async with raw_server() as server:
        url = f"http://127.0.0.1:{server.port}/"
        assert await post(url, LOCAL) == Reply(status=None, reason=Reason.CONNECTION)
    assert await post(url, LOCAL) == Reply(status=None, reason=Reason.CONNECTION)
    resolver = ScriptedResolver([])
    async with HttpTransport(NONE, resolver=resolver) as transport:
        reply = await transport.post("https://nowhere.example/", HEADERS, BODY)
    assert reply == Reply(status=None, reason=Reason.CONNECTION)


async def test_a_certificate_that_nobody_trusts_or_for_another_name_is_refused(tmp_path: Path) -> None:
    ca_file, context = issue(tmp_path)
    trusting = ssl.create_default_context(cafile=str(ca_file))
    requests: list[bytes] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    async with raw_server(respond, tls=context) as server:
        resolver = ScriptedResolver(["127.0.0.1"])
        for tls, name, expected in (
            (None, "www.youtube.com", Reply(status=None, reason=Reason.TLS)),
            (trusting, "hook.example", Reply(status=None, reason=Reason.TLS)),
            (trusting, "www.youtube.com", Reply(status=204, reason=None)),
        ):
            async with HttpTransport(NONE, resolver=resolver, is_allowed=bool, tls=tls) as transport:
                assert await transport.post(f"https://{name}:{server.port}/", HEADERS, BODY) == expected
    assert len(requests) == 1, "no message leaves before the certificate is checked"
