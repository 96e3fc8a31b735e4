"""`GET /listen/ID.mp3`: sends the sound of a job while it is still encoded, from its first frame on.

The response has no length, no ETag and no ranges, because the finished file will be another one: it begins with tags.
So it has an address of its own, and redirects to the download once the track is finished.

* Each listener is sent the encoder's file at its own pace (`converter.live_sound`).
* If the conversion fails, or a second encoder begins, the connection is closed without the last chunk. So no client
  takes a part of the sound for all of it, or two encodings for one.
* A listener counts as one of its client's transfers (`Sender.transfer_of`), also while it waits for the first frame.
* A listener holds the encoder's file open, and so its space on the disk, although the file is removed when the
  conversion has ended. So it must read the rest in the time that playing the whole sound would take.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from typing import Final, TypeVar

from aiohttp import hdrs, web

from ytmp3.converter.live_sound import PIECE_BYTES, SoundLostError, SoundReader
from ytmp3.core.job import Status, Ticket
from ytmp3.core.recipe import Format
from ytmp3.engine.jobs import Jobs
from ytmp3.engine.listening import Listening
from ytmp3.http import headers
from ytmp3.http.addresses import Addresses
from ytmp3.http.admission import CLIENT, LINK_UNTIL
from ytmp3.http.connections import ProblemProtocol
from ytmp3.http.download import STALL_SECONDS, Sender, downloadable_track, expired, split_file_name
from ytmp3.http.errors import NotFound, NotListenable, NotReady
from ytmp3.http.keys import Keys
from ytmp3.http.track_access import ticket_of

T = TypeVar("T")

WAIT_SECONDS: Final = 25.0
"""Longest wait, in seconds, for the first frame. An extraction takes some seconds. Proxies give up after 30 to 60 s."""
ELSEWHERE_RETRY_SECONDS: Final = 1
"""The Retry-After, in seconds, if another instance converts: the next request may reach that one."""
REST_SLACK_SECONDS: Final = 120.0
"""How much longer, in seconds, than the sound itself a listener may take after the end of the conversion. Players pause
to fill their buffers; and a write that began before the end may take another STALL_SECONDS."""
UNKNOWN_SECONDS: Final = 3600.0
"""The duration, in seconds, that is assumed of sound whose duration is not known."""
ASKS_OTHERS: Final = "X-Sound-Elsewhere"
"""A header of requests through our nginx. It asks the next instance if this one answers 503; it cannot do so after 409.
If a client sends it to an instance directly, it gets 503 without a body in place of 409. That gives it no other
access."""
_TO_ANOTHER_INSTANCE: Final = headers.extended(
    headers.EMPTY, {hdrs.RETRY_AFTER: str(ELSEWHERE_RETRY_SECONDS), "X-Accel-Redirect": "/_sound-elsewhere"}
)
"""The headers of that 503. If it is the last instance that nginx may ask, the redirect makes nginx answer 409."""
BUSY_RETRY_SECONDS: Final = 2
"""The Retry-After, in seconds, after WAIT_SECONDS without a frame: the client has waited long enough already."""


class HowEnded(StrEnum):
    """How a stream of sound has ended."""

    COMPLETE = "complete"
    BROKEN = "broken"
    """The conversion failed, it began again, or its file cannot be read."""
    STALLED = "stalled"
    """The client did not read for STALL_SECONDS, or read the rest of a finished conversion too slowly."""
    LEFT = "left"


class ListenHandlers:
    """The route of the sound."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        listening: Listening,
        sender: Sender,
        keys: Keys,
        addresses: Addresses,
        listeners: "Listeners",
    ) -> None:
        self._jobs = jobs
        self._listening = listening
        self._sender = sender
        self._keys = keys
        self._addresses = addresses
        self._listeners = listeners

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """GET /listen/ID.mp3. The extension may be missing."""
        job_id, extension = split_file_name(request.match_info["file_name"])
        ticket = await ticket_of(request, job_id, self._jobs, self._keys)
        if ticket.conversion.recipe.format is not Format.MP3:
            raise NotListenable
        if extension not in {None, ticket.conversion.recipe.extension}:
            raise NotFound("Only MP3 can be listened to: ask for /listen/ID.mp3.")
        if ticket.status not in {Status.PENDING, Status.PROCESSING}:
            return await self._ended(request, ticket)
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers=headers.LIVE)
        with self._sender.transfer_of(request[CLIENT].owner):
            return await _while_connected(request, self._listen(request, ticket))

    async def _listen(self, request: web.Request, ticket: Ticket) -> web.StreamResponse:
        found = await self._listening.find(ticket, seconds=self._listeners.wait_seconds)
        if found.reader is not None:
            try:
                return await self._listeners.send(request, found.reader)
            finally:
                found.reader.close()
        if found.ticket.status not in {Status.PENDING, Status.PROCESSING}:
            return await self._ended(request, found.ticket)
        if found.is_here:
            raise NotReady(
                "There is no audio yet. Send the request again after Retry-After.",
                retry_after_seconds=BUSY_RETRY_SECONDS,
            )
        if request.headers.get(ASKS_OTHERS) is not None:
            return web.Response(status=503, headers=_TO_ANOTHER_INSTANCE)
        raise NotReady(
            "Another instance of the service has this conversion. Send the request again after Retry-After.",
            retry_after_seconds=ELSEWHERE_RETRY_SECONDS,
        )

    async def _ended(self, request: web.Request, ticket: Ticket) -> web.Response:
        """Redirect to the track of a job that has ended.

        Raises:
            TrackGone: it has none.
        """
        downloadable_track(ticket, ready_in_seconds=None)
        if await self._jobs.has_expired(ticket):
            raise expired()
        extension = ticket.conversion.recipe.extension
        # A request by a signed link needs one for the track too. Its signature is for the job, so it is the same.
        address = self._addresses.of_track(ticket.job.job_id, extension, request.get(LINK_UNTIL))
        return web.Response(status=307, headers=headers.extended(headers.EMPTY, {hdrs.LOCATION: address}))


class Listeners:
    """Sends sound to listeners, and counts them.

    `count_bytes` is called with the size of each piece that was sent, `count_end` with how each stream has ended.
    `wait_seconds` and `stall_seconds` are for tests.
    """

    def __init__(
        self,
        *,
        count_bytes: Callable[[float], None],
        count_end: Callable[[HowEnded], None],
        wait_seconds: float = WAIT_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.wait_seconds = wait_seconds
        self.active = 0
        """The number of streams that this process is sending."""
        self._count_bytes = count_bytes
        self._count_end = count_end
        self.stall_seconds = stall_seconds

    async def send(self, request: web.Request, reader: SoundReader) -> web.StreamResponse:
        """Respond with the sound, until the conversion has ended.

        Raises:
            ConnectionResetError: the sound does not go on, or the client stalled. The connection is closed.
        """
        self.active += 1
        how = HowEnded.LEFT
        try:
            response = web.StreamResponse(headers=headers.LIVE)
            await response.prepare(request)
            if request.transport is not None:
                request.transport.set_write_buffer_limits(high=PIECE_BYTES)

            async def write(piece: bytes) -> None:
                await response.write(piece)
                await request.writer.drain()
                self._count_bytes(len(piece))

            await pass_on(reader, write, stall_seconds=self.stall_seconds)
            await response.write_eof()
            how = HowEnded.COMPLETE
        except ConnectionError:
            raise
        except TimeoutError:
            how = HowEnded.STALLED
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the listener stalled") from None
        except (SoundLostError, OSError):
            how = HowEnded.BROKEN
            raise ConnectionResetError("the sound does not go on") from None
        finally:
            self.active -= 1
            self._count_end(how)
        return response


async def pass_on(
    reader: SoundReader, write: Callable[[bytes], Coroutine[None, None, None]], *, stall_seconds: float
) -> None:
    """Pass all of a sound to `write`, which waits until the client has taken each piece.

    Raises:
        TimeoutError: the client did not take a piece for `stall_seconds`; or the conversion has ended, and the client
            did not read the rest in the duration of the sound and REST_SLACK_SECONDS.
        SoundLostError, OSError: the sound does not go on.
    """
    clock = asyncio.get_running_loop().time
    async with asyncio.timeout(None) as rest:
        while piece := await reader.next_piece():
            if reader.is_confirmed and rest.when() is None:
                seconds = UNKNOWN_SECONDS if reader.seconds is None else reader.seconds
                rest.reschedule(clock() + seconds + REST_SLACK_SECONDS)
            async with asyncio.timeout(stall_seconds):
                await write(piece)


async def _while_connected(request: web.Request, operation: Awaitable[T]) -> T:
    """Await an operation; cancel it when the client leaves.

    Raises:
        ConnectionResetError: the client has left.
    """
    task = asyncio.ensure_future(operation)
    protocol = request.protocol
    assert isinstance(protocol, ProblemProtocol)

    def leave() -> None:
        task.cancel()

    protocol.on_departure = leave
    try:
        return await task
    except asyncio.CancelledError:
        if (current := asyncio.current_task()) is not None and current.cancelling():
            raise
        raise ConnectionResetError("the listener went away") from None
    finally:
        protocol.on_departure = None
