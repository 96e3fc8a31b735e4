"""The connections to one server: a pool, a deadline for every call, and a circuit breaker.

* Each call has a timeout, which starts when the call has a permit for a connection. Only this timeout counts as a
  failure of Redis. Two other delays do not: the wait for the permit, which means overload and has a timeout of its own,
  and the time during which this process's event loop is blocked (see `deadline`).
* A connection whose replies were not all read is closed and never used again: the next caller would read replies that
  are not its own (CVE-2023-28858 in redis-py was such a mix-up).
* After a failure the breaker opens: all calls fail immediately for `rest_seconds`, and then one probe call tries the
  server. So no HTTP request waits for a server that is down, and its recovery is noticed within a fraction of a second.

redis-py and hiredis handle sockets, encoding and decoding. Callers interpret the replies.
"""

import asyncio
import contextlib
import math
import os
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final
from weakref import WeakKeyDictionary

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import AuthenticationError, MovedError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as NotConnected

from ytmp3.core.errors import StoreDown, StoreError, StoreFull, StoreUnusable
from ytmp3.jobstore.redis.addresses import Options, server_name
from ytmp3.jobstore.settings import RedisTimeouts

DEADLINE_STEP_SECONDS: Final = 0.03
"""Length, in seconds, of each step of a deadline, and of the grace step after the last one. So a deadline is late by at
most this."""
HANDLER_CONNECTIONS: Final = 24
"""Connections for calls that an HTTP request waits for. More would not help: Redis executes one command at a time."""
WORKER_CONNECTIONS: Final = 8
"""Connections for calls of workers and housekeeping loops. They are separate, so that no HTTP request waits for a
worker's longer timeout, and no renewal of a lease waits behind thousands of requests."""
_NOT_READY_CODES: Final = frozenset(
    {"LOADING", "MISCONF", "READONLY", "BUSY", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"}
)
"""Redis error codes of a temporary state, which usually ends without an operator."""
_LOGIN_REFUSED_CODES: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})

Argument = str | int | bytes
Reply = Any
"""The reply to a command: None, int, bytes, a list of these, or an error. Errors are returned and not raised: the
caller handles them."""


def pack(commands: Sequence[Sequence[Argument]]) -> bytes:
    """Encode the commands in the Redis protocol (RESP)."""
    # hiredis' type stub asks for a tuple with one element.
    return b"".join(pack_command(tuple(command)) for command in commands)  # type: ignore[arg-type]


class Caller(Enum):
    """Who waits for a call. It decides about the timeout, and about the share of the connections."""

    HANDLER = "handler"
    """An HTTP request."""
    WORKER = "worker"
    """A worker or a housekeeping loop."""


@dataclass(frozen=True, slots=True)
class _PoolShare:
    """The share of the connections that one kind of caller has, and the timeout of its calls."""

    permits: asyncio.Semaphore
    """One permit for each connection of the share."""
    timeout_seconds: float
    """Longest time from sending a call's commands to their complete replies."""


class RedisLink:
    """The connections to one server. They are opened and reopened on demand."""

    def __init__(self, options: Options, timeouts: RedisTimeouts) -> None:
        """Set up the pool. Connections are opened later, on demand."""
        self.host = str(options.get("host", ""))
        self.name = f"Redis at {server_name(options)}"
        self._shares = {
            Caller.HANDLER: _PoolShare(asyncio.Semaphore(HANDLER_CONNECTIONS), timeouts.handler_seconds),
            Caller.WORKER: _PoolShare(asyncio.Semaphore(WORKER_CONNECTIONS), timeouts.worker_seconds),
        }
        self._timeouts = timeouts
        self._pool = ConnectionPool(max_connections=HANDLER_CONNECTIONS + WORKER_CONNECTIONS, **options)
        self._is_closed = False
        self._breaker = _Breaker(rest_seconds=timeouts.rest_seconds)
        self._failures = 0
        self._last_failure = "no reply"
        """Why the breaker opened."""
        self._failures_seen: WeakKeyDictionary[AbstractConnection, int] = WeakKeyDictionary()
        """The value of `_failures` when each connection was last used."""

    @property
    def is_up(self) -> bool:
        """Whether the last call succeeded, or there was none."""
        return not self._breaker.is_open

    async def exchange(
        self, packed: bytes, count: int, caller: Caller, *, within_seconds: float | None = None
    ) -> list[Reply]:
        """Send commands in one write, and return their `count` replies, errors included.

        `within_seconds` shortens the timeout of the caller. If that leaves less than any caller's timeout, its end does
        not count as a failure of the server.

        If the connection breaks, all commands are sent once more over another one: every operation of the store may be
        repeated.

        Raises:
            StoreDown: there was no complete reply in time. Whether the commands took effect is not known.
            StoreUnusable: the login was refused.
        """
        share = self._shares[caller]
        async with self._permit(share):
            if self._is_closed:
                raise StoreDown(f"{self.name}: this node is no longer in the cluster, or the service stops")
            # Checked after the wait for a connection, so that calls which were waiting when the server stopped replying
            # fail immediately too.
            if not self._breaker.admits(time.monotonic()):
                raise StoreDown(f"{self.name}: circuit breaker open after a failure: {self._last_failure}")
            timeout_seconds = min(share.timeout_seconds, math.inf if within_seconds is None else within_seconds)
            if self._breaker.is_open:
                # This call is the probe. All other calls fail until it ends, so it gets the shorter timeout.
                timeout_seconds = min(timeout_seconds, self._timeouts.handler_seconds)
            return await self._exchange(packed, count, timeout_seconds)

    def dedicated_connection(self) -> AbstractConnection:
        """Return a new connection that is not yet open, outside the pool: the caller closes it."""
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def close(self) -> None:
        """Close all connections. Later calls raise StoreDown."""
        self._is_closed = True
        await self._pool.aclose()

    def as_store_error(self, error: Exception) -> StoreError:
        """Translate an error of redis-py into a StoreError. The text contains no secret."""
        return store_error_of(error, self.name)

    @contextlib.asynccontextmanager
    async def _permit(self, share: _PoolShare) -> AsyncIterator[None]:
        """Hold the permit for one of the share's connections.

        Raises:
            StoreDown: all connections of the share were in use for the whole pool timeout. Nothing was sent.
        """
        try:
            async with asyncio.timeout(self._timeouts.pool_seconds if share.permits.locked() else None):
                await share.permits.acquire()
        except TimeoutError:
            raise StoreDown(f"{self.name}: overloaded, no free connection") from None
        try:
            yield
        finally:
            share.permits.release()

    async def _exchange(self, packed: bytes, count: int, timeout_seconds: float) -> list[Reply]:
        """Exchange within the timeout, and report the outcome to the breaker."""
        try:
            async with deadline(timeout_seconds):
                replies = await self._exchange_or_repeat(packed, count)
        except TimeoutError:
            reason = f"no reply within {timeout_seconds:.3g} s"
            if timeout_seconds < min(self._timeouts.handler_seconds, self._timeouts.worker_seconds):
                self._breaker.abandon()
            else:
                self._fail()
                self._last_failure = reason
            raise StoreDown(f"{self.name}: {reason}") from None
        except (RedisError, OSError) as error:
            store_error = self.as_store_error(error)
            if isinstance(store_error, StoreDown):
                self._fail()
                self._last_failure = str(store_error).removeprefix(f"{self.name}: ")
            else:
                self._breaker.succeed()
            raise store_error from None
        except asyncio.CancelledError:
            self._breaker.abandon()
            raise
        self._breaker.succeed()
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # The server has become a replica, and its host name may already resolve to the new primary. Counting this
            # as a failure makes every open connection reconnect before its next use.
            self._failures += 1
        return replies

    async def _exchange_or_repeat(self, packed: bytes, count: int) -> list[Reply]:
        """Exchange, and once more if the connection broke: an idle connection may have been closed by a restart.

        A second break is reported: by then, the server is most likely down.
        """
        try:
            return await self._exchange_once(packed, count)
        except (Disconnected, OSError) as error:
            if self._is_closed or isinstance(error, AuthenticationError):
                raise
            # Usually Redis was restarted or failed over, and a working server already listens on the same address.
            return await self._exchange_once(packed, count)

    async def _exchange_once(self, packed: bytes, count: int) -> list[Reply]:
        """Send the commands over one connection, and read all replies, also those that are errors.

        Raises:
            RedisError, OSError: the connection broke. It is closed, because replies may be left in it.
        """
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await self._reconnect_if_suspect(connection)
            await connection.send_packed_command(packed, check_health=False)
            return [await _reply(connection) for _ in range(count)]
        except BaseException:
            # Unread replies may still arrive on this connection; the next caller must not take them for its own.
            await connection.disconnect(nowait=True)
            raise
        finally:
            if self._is_closed:
                # It was being opened while `close` closed all open connections.
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _reconnect_if_suspect(self, connection: AbstractConnection) -> None:
        """Reconnect a connection that was last used before the latest failure: the server may have closed it."""
        if self._failures_seen.setdefault(connection, self._failures) != self._failures:
            self._failures_seen[connection] = self._failures
            await connection.disconnect(nowait=True)
            await connection.connect()  # type: ignore[no-untyped-call]

    def _fail(self) -> None:
        self._failures += 1
        self._breaker.fail(time.monotonic())


def store_error_of(error: Exception, name: str) -> StoreError:
    """Translate an error of redis-py into a StoreError. `name` is that of the server or of the cluster."""
    if isinstance(error, StoreError):
        return error
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    if code == "OOM":
        return StoreFull(f"{name}: out of memory (maxmemory)")
    if code in _LOGIN_REFUSED_CODES or isinstance(error, AuthenticationError):
        return StoreUnusable(f"{name}: the login or a command is not permitted ({code})")
    if code in _NOT_READY_CODES or not isinstance(error, ResponseError):
        return StoreDown(f"{name}: {code if code in _NOT_READY_CODES else _reason(error)}")
    if isinstance(error, MovedError):
        # For example where the user may not ask what kind of server this is (see `server`).
        return StoreUnusable(f"{name}: one node of a Redis Cluster: it refers to {error.host}:{error.port}")
    return StoreUnusable(f"{name}: {error}")


@contextlib.asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError in the body after `seconds`, without counting time in which the event loop is blocked.

    The time is counted in steps, each with a timer of its own. If the event loop is blocked (by a thousand requests
    that arrive together), the current step takes longer, but still counts as one step.

    A grace step follows the last step, for an event loop that is blocked during the last step. When the block ends,
    asyncio runs overdue timers before it resumes tasks whose sockets are readable. Without the grace step, a reply that
    has already arrived would be reported as a timeout.
    """
    loop = asyncio.get_running_loop()
    left = seconds
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as limit:

        def step() -> None:
            nonlocal left, timer
            left -= DEADLINE_STEP_SECONDS
            if left > 0:
                timer = loop.call_later(min(left, DEADLINE_STEP_SECONDS), step)
            else:
                limit.reschedule(loop.time() + DEADLINE_STEP_SECONDS)

        timer = loop.call_later(min(left, DEADLINE_STEP_SECONDS), step)
        try:
            yield
        finally:
            timer.cancel()


class _Breaker:
    """A circuit breaker: closed while calls succeed, open after a failure.

    While open, it refuses all calls for `rest_seconds`, and then admits one probe at a time.
    """

    def __init__(self, *, rest_seconds: float) -> None:
        self._rest_seconds = rest_seconds
        self._rests_until: float | None = None
        self._has_probe = False
        """Whether a probe is running."""

    @property
    def is_open(self) -> bool:
        return self._rests_until is not None

    def admits(self, now: float) -> bool:
        """Return whether a call may be made. A call that is admitted while the breaker is open is the probe."""
        if self._rests_until is None:
            return True
        if self._has_probe or now < self._rests_until:
            return False
        self._has_probe = True
        return True

    def succeed(self) -> None:
        """Report that the server replied."""
        self._rests_until = None
        self._has_probe = False

    def fail(self, now: float) -> None:
        """Report that the server did not reply."""
        self._rests_until = now + self._rest_seconds
        self._has_probe = False

    def abandon(self) -> None:
        """Report that the call was cancelled or too short, which says nothing about the server."""
        self._has_probe = False


async def _reply(connection: AbstractConnection) -> Reply:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _reason(error: BaseException) -> str:
    """Return the operating system's words for a broken connection; redis-py keeps the system's error as the context."""
    if isinstance(error, NotConnected):
        return "no connection in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            # Its number is OpenSSL's, not the system's.
            return f"TLS: {getattr(cause, 'verify_message', '') or cause.reason or 'failed'}"
        if isinstance(cause, OSError) and cause.errno:
            # A positive number is the system's; name resolution has negative ones, with their own texts.
            return os.strerror(cause.errno).lower() if cause.errno > 0 else str(cause.strerror).lower()
        cause = cause.__cause__ or cause.__context__
    return "the connection broke" if isinstance(error, Disconnected) else type(error).__name__
