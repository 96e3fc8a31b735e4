"""The HTTP CONNECT proxy: the only way out of the server under test.

A CONNECT to a host of YouTube is answered by the fake itself, on the same connection: TLS starts where the tunnel
would, so no byte is copied from socket to socket. Everything else is refused with 403 and recorded.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Callable
from typing import Final, cast

from .counting import Tallies

_ALLOWED: Final = re.compile(
    r"(?:[a-z0-9-]+\.)?youtube\.com|youtu\.be|www\.youtube-nocookie\.com|[a-z0-9-]+\.googlevideo\.com|i\.ytimg\.com"
    # Google's captcha page.
    r"|www\.google\.com",
    re.ASCII,
)
_USER: Final = re.compile(rb"\r\nProxy-Authorization: *Basic ([A-Za-z0-9+/=]+)", re.IGNORECASE)
_HEAD_BYTES: Final = 16_384
_REFUSAL: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_WELCOME: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


def _user_of(head: bytes) -> str | None:
    """Return the user name of a `Proxy-Authorization: Basic` header."""
    found = _USER.search(head)
    return None if found is None else base64.b64decode(found[1]).decode("latin-1").partition(":")[0]


class Proxy:
    """Hands each admitted connection to a protocol of the web server."""

    def __init__(
        self, *, tls: ssl.SSLContext, web_server: Callable[[], asyncio.BaseProtocol], tallies: Tallies
    ) -> None:
        self._tls = tls
        self._web_server = web_server
        self._tallies = tallies
        self._handshakes: set[asyncio.Task[None]] = set()

    def accept(self) -> asyncio.Protocol:
        return _Greeter(self)

    def admits(self, head: bytes, peer: object) -> bool:
        """Return whether a request head may pass, and record it."""
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target = rest.partition(" ")[0]
        host, _, port = target.rpartition(":")
        if method == "CONNECT" and port == "443" and _ALLOWED.fullmatch(host):
            self._tallies.connects += 1
            self._tallies.proxy_users[peer] = _user_of(head)
            return True
        self._tallies.refused.append(f"{method} {target}"[:200])
        return False

    def serve(self, transport: asyncio.Transport) -> None:
        task = asyncio.create_task(self._upgrade(transport), name="tls-handshake")
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _upgrade(self, transport: asyncio.Transport) -> None:
        inside = _Buffered(cast("asyncio.Protocol", self._web_server()))
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(transport, inside, self._tls, server_side=True)
        except (OSError, ssl.SSLError):
            transport.abort()
            return
        if secured is not None:
            inside.begin(secured)

    async def close(self) -> None:
        for task in self._handshakes:
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)


class _Greeter(asyncio.Protocol):
    """Reads one request head in the clear."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" not in self._head:
            if len(self._head) > _HEAD_BYTES:
                self._transport.abort()
            return
        if self._proxy.admits(bytes(self._head), self._transport.get_extra_info("peername")):
            # The client speaks again only when it has read this line, so nothing arrives before TLS is in place.
            self._transport.pause_reading()
            self._transport.write(_WELCOME)
            self._proxy.serve(self._transport)
        else:
            self._transport.write(_REFUSAL)
            self._transport.close()


class _Buffered(asyncio.Protocol):
    """Keeps what arrives between the end of the handshake and the moment `start_tls` returns."""

    def __init__(self, inside: asyncio.Protocol) -> None:
        self._inside = inside
        self._began = False
        self._kept: list[bytes] = []
        self._lost = False

    def begin(self, transport: asyncio.Transport) -> None:
        if self._lost:
            return
        self._began = True
        self._inside.connection_made(transport)
        for data in self._kept:
            self._inside.data_received(data)
        self._kept.clear()

    def data_received(self, data: bytes) -> None:
        if self._began:
            self._inside.data_received(data)
        else:
            self._kept.append(data)

    def eof_received(self) -> bool | None:
        return self._inside.eof_received() if self._began else None

    def pause_writing(self) -> None:
        self._inside.pause_writing()

    def resume_writing(self) -> None:
        self._inside.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._began:
            self._inside.connection_lost(exc)
