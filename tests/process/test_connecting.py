"""Connections to a host with several addresses, some of which are dead."""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import running_pipeline
from tests.stand.silent_address import silent_address
from ytmp3.converter.youtube.connecting import AddressInfo, Route, alternated, connect_to_first

GENEROUS_SECONDS = 60.0
"""A time limit for connections to this machine that no busy machine reaches."""

# A zygote for which every name has these addresses, in this order, and for which they count as public ones.
HALF_DEAD = """
import json, socket, sys
from ytmp3.converter.youtube.__main__ import main
from ytmp3.converter.youtube import egress
egress.is_public = lambda address: True
socket.getaddrinfo = lambda *arguments, **options: [
    (socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM, 6, "", tuple(address))
    for address in json.loads(sys.argv[1])
]
main()
"""


@contextlib.contextmanager
def silent_ipv6_address() -> Iterator[list[object]]:
    """An IPv6 address that never answers the first packet of a connection."""
    with silent_address("::1") as address:
        with pytest.raises(TimeoutError):
            socket.create_connection(address[:2], timeout=0.3)
        yield list(address)


async def test_a_conversion_succeeds_although_the_ipv6_addresses_are_dead(youtube: Spawned, tmp_path: Path) -> None:
    """yt-dlp alone would wait 60 s for the three dead addresses of each connection, and the extraction would fail."""

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stand in for YouTube's TLS port: a tunnel through the fake YouTube's proxy."""
        proxy = urlsplit(youtube.proxy_url)
        to_proxy = await asyncio.open_connection(proxy.hostname, proxy.port)
        to_proxy[1].write(b"CONNECT www.youtube.com:443 HTTP/1.1\r\n\r\n")
        await to_proxy[0].readuntil(b"\r\n\r\n")
        await asyncio.gather(pump(reader, to_proxy[1]), pump(to_proxy[0], writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(2**16):
                writer.write(piece)
        writer.close()

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as server:
        with silent_ipv6_address() as dead:
            live = list(server.sockets[0].getsockname())
            zygote = (HALF_DEAD, json.dumps([dead, dead, dead, live, live]))
            ports = tuple(int(str(address[1])) for address in (live, dead))
            async with running_pipeline(youtube, tmp_path, has_proxy=False, zygote=zygote, ports=ports) as own:
                await own.convert(video_id(Kind.SHORT, 51))


def address_info(*address: object) -> AddressInfo:
    family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", tuple(address)


def test_families_alternate_and_the_first_address_stays_first() -> None:
    addresses = [address_info(name, 443) for name in ("2001::1", "2001::2", "2001::3", "1.1.1.1", "1.1.1.2")]
    assert [each[4][0] for each in alternated(addresses)] == ["2001::1", "1.1.1.1", "2001::2", "1.1.1.2", "2001::3"]
    assert [each[4][0] for each in alternated(addresses[3:])] == ["1.1.1.1", "1.1.1.2"]


def test_refusing_and_silent_addresses_delay_the_connection_by_no_more_than_the_time_limit() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as unused, silent_ipv6_address() as silent:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        live, refusing, dead = (
            address_info(*server.getsockname()),
            address_info(*unused.getsockname()),
            address_info(*silent),
        )
        nowhere = address_info("127.0.0.1", 0)  # fails at once
        with connect_to_first([refusing, nowhere, refusing, live], GENEROUS_SECONDS) as connection:
            assert connection.getpeername() == live[4]
            assert connection.gettimeout() == GENEROUS_SECONDS
        # In sequence, the first dead address would use up the time limit.
        with connect_to_first([dead, dead, live], GENEROUS_SECONDS) as connection:
            assert connection.getpeername() == live[4]
        with pytest.raises(ConnectionRefusedError):
            connect_to_first([refusing, refusing], GENEROUS_SECONDS)
        begun_at = time.monotonic()
        with pytest.raises(TimeoutError):
            connect_to_first([dead, refusing], 0.6)
        assert time.monotonic() - begun_at >= 0.6
        with pytest.raises(OSError, match="no address"):
            connect_to_first([], 1.0)
    # Not more; fewer, if a descriptor of an earlier test was closed meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= before


@contextlib.contextmanager
def both_families() -> Iterator[list[AddressInfo]]:
    """Yield the addresses of a host that listens on IPv6 and IPv4."""
    with contextlib.ExitStack() as stack:
        addresses: list[AddressInfo] = []
        for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
            listener = stack.enter_context(socket.socket(family))
            listener.bind((host, 0))
            listener.listen()
            addresses.append((family, socket.SOCK_STREAM, 6, "", listener.getsockname()))
        yield addresses


def family_of(route: Route, addresses: list[AddressInfo]) -> int:
    with route.connect(addresses, GENEROUS_SECONDS) as connection:
        return connection.family


def test_a_conversion_keeps_the_ip_version_of_its_first_connection() -> None:
    with both_families() as (six, four):
        route = Route()
        assert family_of(route, [four, six]) == socket.AF_INET
        assert family_of(route, [six, four]) == socket.AF_INET
        assert family_of(route, [six]) == socket.AF_INET6, "a host without such an address is reached all the same"
        assert family_of(route, [six, four]) == socket.AF_INET
        route.forget()
        assert family_of(route, [six, four]) == socket.AF_INET6


def test_an_operator_can_fix_the_ip_version_and_the_own_address() -> None:
    with both_families() as (six, four):
        route = Route("4")
        assert family_of(route, [six, four]) == socket.AF_INET
        route.forget()
        assert family_of(route, [six, four]) == socket.AF_INET
        with pytest.raises(OSError, match="no address to connect to"):
            route.connect([six], GENEROUS_SECONDS)
        with Route(source="127.0.0.2").connect([six, four], GENEROUS_SECONDS) as connection:
            assert connection.getsockname()[0] == "127.0.0.2"
        with pytest.raises(OSError, match="assign requested address"):
            Route(source="192.0.2.1").connect([six, four], GENEROUS_SECONDS)
