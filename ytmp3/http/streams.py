"""Sends server-sent events (WHATWG HTML, section 9.2): responses that stay open and report changes.

`EventStreams` writes the messages of a `Source` and does not interpret them. For each stream:

* A client that reconnects with the `id` of its last message gets no message if nothing has changed since then. If its
  stream has ended as well, it gets 204, which makes a browser stop reconnecting.
* A slow reader gets the newest state and no backlog: the next messages are taken from the source only when all but
  UNSENT_BYTES of the previous ones have been sent.
* A comment is sent every HEARTBEAT_SECONDS. It keeps proxies from closing the connection, and shows whether the client
  is still there.
* While this instance drains, a stream has one message for each followed job or batch, and then ends. The client
  reconnects after the time in `retry`, to another instance or to this one after its restart.
"""

import contextlib
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import hdrs, web
from msgspec import Struct

from ytmp3.core.errors import BatchUnknown, ClientQuota, StoreUnavailable
from ytmp3.core.ids import ClientId
from ytmp3.http import headers
from ytmp3.http.connections import ProblemProtocol
from ytmp3.http.errors import TooManyStreams

HEARTBEAT_SECONDS: Final = 15.0
"""Longest time, in seconds, without a byte on a stream. Proxies close idle connections after 60 s or more."""
RETRY_MILLISECONDS: Final = 1000
"""Shortest time, in milliseconds, after which a client reconnects when its connection breaks. Each stream gets a random
time up to twice as long, so that a thousand clients of a stopped instance do not all reconnect at the same moment."""
UNSENT_BYTES: Final = 16 * 1024
"""Most unsent bytes of a stream, in this process and in the kernel's socket buffer: about ten messages."""
BUSY_RETRY_SECONDS: Final = 10
"""The Retry-After, in seconds, of a stream that was refused because too many are open."""
LAST_EVENT_ID: Final = "Last-Event-ID"
_HEARTBEAT: Final = b":\n\n"
_END: Final = b"event: end\ndata: {}\n\n"


class Message(Struct, frozen=True, kw_only=True):
    """One event of a stream."""

    event: str
    """Its name, for `addEventListener`."""
    data: bytes
    """One line of JSON."""
    revision: str
    """The `id`, which the client sends back as `Last-Event-ID`. Identifies the state that the stream has sent."""

    def encoded(self) -> bytes:
        """Return the message in the format of the stream."""
        return b"event: %b\nid: %b\ndata: %b\n\n" % (self.event.encode(), self.revision.encode(), self.data)


class Source(Protocol):
    """Supplies the messages of one stream."""

    @property
    def revision(self) -> str:
        """Identifies the state that `take` has returned so far."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more after what `take` has returned."""

    async def take(self, seconds: float) -> list[Message]:
        """Wait for changes, and return the newest state of what has changed since the last call.

        The first call returns the state of everything without waiting. Returns an empty list after
        `seconds`, or after `wake`.
        """

    def wake(self) -> None:
        """Make `take` return at once."""


class EventStreams:
    """The open streams of this process. `max_streams` limits all of them, and `client_max_streams` those of one client.

    0 means no limit. `is_draining` returns whether the instance is shutting down.
    """

    def __init__(
        self,
        *,
        max_streams: int,
        client_max_streams: int,
        is_draining: Callable[[], bool],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._max_streams = max_streams
        self._client_max_streams = client_max_streams
        self._is_draining = is_draining
        self._heartbeat_seconds = heartbeat_seconds
        self._sources: set[Source] = set()
        self._of_client: Counter[ClientId] = Counter()

    @property
    def active(self) -> int:
        """The number of open streams."""
        return len(self._sources)

    def end_all(self) -> None:
        """End every stream, because the instance drains now."""
        for source in self._sources:
            source.wake()

    async def send(self, request: web.Request, client: ClientId, source: Source) -> web.StreamResponse:
        """Respond with a stream of the source's messages, until it ends, the client leaves or the instance drains.

        Raises:
            TooManyStreams, ClientQuota: nothing was sent.
            ConnectionResetError: the client has left.
        """
        with self._counted(client, source):
            messages = await source.take(0.0)
            if request.headers.get(LAST_EVENT_ID) == source.revision:
                if source.has_ended:
                    return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers.EMPTY)
                messages = []
            if request.method == hdrs.METH_HEAD:
                return web.Response(headers=headers.EVENTS)
            response = web.StreamResponse(headers=headers.EVENTS)
            await response.prepare(request)
            with contextlib.suppress(StoreUnavailable, BatchUnknown):
                # The client reconnects, and then gets the changes that it has missed, or an error response.
                await self._send_messages(_Connection(request, response, source), source, messages)
            await response.write_eof()
            return response

    @contextlib.contextmanager
    def _counted(self, client: ClientId, source: Source) -> Iterator[None]:
        if self._client_max_streams and self._of_client[client] >= self._client_max_streams:
            raise ClientQuota(
                "This client has reached its limit of open event streams.", retry_after_seconds=BUSY_RETRY_SECONDS
            )
        if self._max_streams and self.active >= self._max_streams:
            raise TooManyStreams(retry_after_seconds=BUSY_RETRY_SECONDS)
        self._of_client[client] += 1
        self._sources.add(source)
        try:
            yield
        finally:
            self._sources.discard(source)
            # Subtracting counters also drops a client whose count reaches zero.
            self._of_client -= Counter((client,))

    async def _send_messages(self, connection: "_Connection", source: Source, first: Iterable[Message]) -> None:
        milliseconds = RETRY_MILLISECONDS + random.randrange(RETRY_MILLISECONDS)  # noqa: S311  no secret
        text = b"retry: %d\n\n" % milliseconds
        messages = first
        while True:
            text += b"".join(message.encoded() for message in messages)
            is_last = source.has_ended or self._is_draining()
            if source.has_ended:
                text += _END
            await connection.send(text or _HEARTBEAT)
            if is_last:
                return
            messages = await source.take(self._heartbeat_seconds)
            text = b""


class _Connection:
    """The connection of one stream."""

    def __init__(self, request: web.Request, response: web.StreamResponse, source: Source) -> None:
        self._request = request
        self._response = response
        self._has_left = False
        self._source = source
        protocol = request.protocol
        if isinstance(protocol, ProblemProtocol):
            protocol.on_departure = self._leave
        transport = request.transport
        if transport is not None:
            transport.set_write_buffer_limits(high=UNSENT_BYTES)
            if (connection := transport.get_extra_info("socket")) is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    async def send(self, text: bytes) -> None:
        """Send, and return when all but UNSENT_BYTES have been sent.

        Raises:
            ConnectionResetError: the client has left.
        """
        if self._has_left:
            raise ConnectionResetError("the reader went away")
        await self._response.write(text)
        await self._request.writer.drain()

    def _leave(self) -> None:
        self._has_left = True
        self._source.wake()
