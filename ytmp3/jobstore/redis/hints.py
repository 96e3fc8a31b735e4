"""The hints of Redis: publish/subscribe tells this instance which records other instances have written.

Every script that changes a conversion publishes on the conversion's channel (`changed` in lua/shared.lua). An instance
subscribes only to the conversions that one of its clients follows, on a connection of its own: in RESP 2, a
connection that has subscribed takes no other commands. A Redis Cluster passes messages on to all its nodes, so the
connection may be to any of them.

While that connection is broken, hints are lost; `jobstore.Hints` says why this does no harm. After each reconnection,
the confirmation of a subscription counts as a hint: the record may have changed while nobody listened.
"""

import asyncio
import contextlib
import logging
from typing import Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

from ytmp3.core.ids import ConversionId
from ytmp3.jobstore import OnHint
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Reply, pack
from ytmp3.jobstore.redis.nodes import Nodes

log = logging.getLogger(__name__)

PING_SECONDS: Final = 10.0
"""Interval, in seconds, at which the server has to reply on the connection. A connection without a reply for twice as
long is considered broken. Otherwise, a server that vanished without closing it would never be noticed."""
RECONNECT_SECONDS: Final = 1.0
"""Pause, in seconds, before a broken connection is opened again."""
JOBS_CHANGED: Final = b"jobs"
"""The message when jobs of the conversion have changed too. Otherwise the message is empty."""


class RedisHints:
    """The subscriptions of one instance. The connection is opened when the first conversion is watched."""

    def __init__(self, nodes: Nodes, keys: Keys) -> None:
        self._keys = keys
        self._nodes = nodes
        self._on_hint: OnHint = lambda *_: None
        self._wanted: set[ConversionId] = set()
        self._has_changed = asyncio.Event()
        """Set when `_wanted` has changed, or `_must_reconnect` is set."""
        self._must_reconnect = False
        self._task: asyncio.Task[None] | None = None

    def start(self, on_hint: OnHint) -> None:
        """See the Protocol."""
        self._on_hint = on_hint

    def watch(self, conversion_id: ConversionId) -> None:
        """See the Protocol."""
        self._wanted.add(conversion_id)
        self._has_changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._keep_listening(), name="redis-hints")

    def unwatch(self, conversion_id: ConversionId) -> None:
        """See the Protocol."""
        self._wanted.discard(conversion_id)
        self._has_changed.set()

    def reconnect(self) -> None:
        """Use a new connection. Called when a node has left the cluster: it replies, but it gets no messages."""
        self._must_reconnect = True
        self._has_changed.set()

    async def close(self) -> None:
        """End the subscriptions."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except* (RedisError, OSError, TimeoutError) as errors:
                log.debug("hints of the job store interrupted", extra={"error": str(errors.exceptions[0])})
            except* Exception:
                # The outermost frame of the task: without hints, clients only see changes some seconds later.
                log.exception("hints of the job store failed")
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        """Open a connection, and pass on its hints until it breaks.

        One task sends and another one receives, because a message may arrive while nothing is sent, and the other way
        round. If one of them fails, the task group ends both, and the caller connects again.
        """
        self._must_reconnect = False
        connection = self._nodes.dedicated_connection()
        try:
            async with asyncio.TaskGroup() as tasks:
                await connection.connect()  # type: ignore[no-untyped-call]
                tasks.create_task(self._send(connection), name="redis-hints-send")
                tasks.create_task(self._receive(connection), name="redis-hints-receive")
        finally:
            await connection.disconnect(nowait=True)

    async def _send(self, connection: AbstractConnection) -> None:
        """Subscribe and unsubscribe as `_wanted` changes, and send a ping from time to time.

        `subscribed` belongs to this connection and begins empty: a new connection has no subscriptions, so the first
        iteration sends all of them. The event is cleared before `_wanted` is read, so that a change in between is not
        missed but leads to another iteration.
        """
        subscribed: set[ConversionId] = set()
        while True:
            self._has_changed.clear()
            if self._must_reconnect:
                raise Disconnected("a node has left the cluster")
            commands: list[tuple[str, ...]] = [("PING",)]
            if more := [self._keys.channel_of(each) for each in self._wanted - subscribed]:
                commands.append(("SUBSCRIBE", *more))
            if fewer := [self._keys.channel_of(each) for each in subscribed - self._wanted]:
                commands.append(("UNSUBSCRIBE", *fewer))
            subscribed = set(self._wanted)
            await connection.send_packed_command(pack(commands), check_health=False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_SECONDS):
                    await self._has_changed.wait()

    async def _receive(self, connection: AbstractConnection) -> None:
        """Pass on messages. Raises TimeoutError if not even the replies to the pings arrive."""
        while True:
            async with asyncio.timeout(2 * PING_SECONDS):
                reply = await connection.read_response()
            self._pass_on(reply)

    def _pass_on(self, reply: Reply) -> None:
        """Pass on a message, or the confirmation of a subscription. Other replies prove that the server responds."""
        match reply:
            case [b"subscribe" | b"message" as kind, bytes(channel), message]:
                conversion_id = ConversionId(channel.decode().rpartition(":")[2])
                self._on_hint(conversion_id, kind == b"subscribe" or message == JOBS_CHANGED)
            case _:
                pass
