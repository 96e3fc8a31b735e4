"""A host with several addresses of which some are dead (F50)."""

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
from ytmp3.converter.youtube.connecting import AddressInfo, alternated, connect_to_first

# Without a proxy: every name has these addresses, in this order, and they count as public ones.
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
def silent_address() -> Iterator[list[object]]:
    """An IPv6 address whose first packet of a connection is never answered: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6))
        listener.bind(("::1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket(socket.AF_INET6))
            filler.setblocking(False)
            filler.connect_ex(address)
        with pytest.raises(TimeoutError):
            socket.create_connection(address[:2], timeout=0.3)
        yield list(address)


async def test_an_ipv6_that_leads_nowhere_costs_a_connection_a_quarter_of_a_second(
    youtube: Spawned, tmp_path: Path
) -> None:
    """F50."""

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """YouTube's own TLS port: a tunnel through the fake's proxy."""
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

    async with await asyncio.start_server(door, "127.0.0.1", 0) as server:
        with silent_address() as dead:
            live = list(server.sockets[0].getsockname())
            async with running_pipeline(
                youtube, tmp_path, has_proxy=False, zygote=(HALF_DEAD, json.dumps([dead, dead, dead, live, live]))
            ) as own:
                begun_at = time.monotonic()
                await own.convert(video_id(Kind.SHORT, 51))
                seconds = time.monotonic() - begun_at
    assert seconds < 10  # one of its connections alone took 60


def answer(*address: object) -> AddressInfo:
    family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", tuple(address)


def test_the_families_take_turns_and_the_first_answer_stays_first() -> None:
    answers = [answer(name, 443) for name in ("2001::1", "2001::2", "2001::3", "1.1.1.1", "1.1.1.2")]
    assert [each[4][0] for each in alternated(answers)] == ["2001::1", "1.1.1.1", "2001::2", "1.1.1.2", "2001::3"]
    assert [each[4][0] for each in alternated(answers[3:])] == ["1.1.1.1", "1.1.1.2"]


def test_what_refuses_is_passed_over_at_once_and_what_is_silent_is_waited_for_no_longer_than_allowed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as unused, silent_address() as silent:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        live, refusing, dead = answer(*server.getsockname()), answer(*unused.getsockname()), answer(*silent)
        nowhere = answer("127.0.0.1", 0)  # known without asking
        begun_at = time.monotonic()
        with connect_to_first([refusing, nowhere, refusing, live], 5.0) as connection:
            assert connection.getpeername() == live[4]
            assert connection.gettimeout() == 5.0
        assert time.monotonic() - begun_at < 1
        begun_at = time.monotonic()
        with connect_to_first([dead, dead, live], 20.0) as connection:
            assert connection.getpeername() == live[4]
        assert time.monotonic() - begun_at < 3
        with pytest.raises(ConnectionRefusedError):
            connect_to_first([refusing, refusing], 5.0)
        begun_at = time.monotonic()
        with pytest.raises(TimeoutError):
            connect_to_first([dead, refusing], 0.6)
        assert 0.6 <= time.monotonic() - begun_at < 3
        with pytest.raises(OSError, match="no address"):
            connect_to_first([], 1.0)
    assert len(os.listdir("/proc/self/fd")) == before
