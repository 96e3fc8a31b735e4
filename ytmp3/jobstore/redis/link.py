"""The connections to Redis: a pool, a deadline for every call, and a circuit breaker.

* Each call has a timeout, which counts from when its command is sent. Only this wait means that Redis is silent.
  Waiting for a free connection does not (that is overload, with a timeout of its own), and neither does a moment in
  which this process is too busy to look at its sockets (see `deadline`).
* A connection whose replies were not all read is closed and never used again: the next caller would read replies that
  are not its own (CVE-2023-28858 in redis-py was such a mix-up).
* After a failure the breaker lets every call fail at once for a moment, and then lets one call try. So a dead Redis
  costs an HTTP request no time, and its return is noticed within a fraction of a second.

Encoding, decoding and sockets are redis-py's and hiredis'. What a command and its reply mean is the caller's business.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Disconnected

from ytmp3.core.errors import StoreDown, StoreError, StoreFull, StoreUnusable
from ytmp3.jobstore.settings import RedisSettings, RedisTimeouts

DEADLINE_STEP_SECONDS: Final = 0.03
"""The length of one step of a deadline, and of the extra moment after the last one (see `deadline`)."""
HANDLER_CONNECTIONS: Final = 24
"""For calls that an HTTP request waits for. More would gain nothing: Redis executes one command at a time."""
WORKER_CONNECTIONS: Final = 8
"""For calls of workers and housekeeping. They are separate, so that no HTTP request waits for a worker's longer
timeout, and no renewal of a lease waits behind thousands of requests."""
_NOT_READY_CODES: Final = frozenset(
    {"LOADING", "MISCONF", "READONLY", "BUSY", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"}
)
"""Error codes of a server that cannot serve now, but may later without anybody's help."""
_LOGIN_REFUSED_CODES: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})

Argument = str | int | bytes
Reply = Any
"""The reply to a command: None, int, bytes, a list of these, or an error. Errors are values here: the caller judges
them."""


def pack(commands: Sequence[Sequence[Argument]]) -> bytes:
    """Return the commands as they are sent."""
    # hiredis' type stub asks for a tuple with one element.
    return b"".join(pack_command(tuple(command)) for command in commands)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class PoolShare:
    """The share of the connections that one kind of caller has, and the timeout of its calls."""

    permits: asyncio.Semaphore
    """One for each connection of the share."""
    timeout_seconds: float
    """From sending a call's commands to their complete replies."""


class RedisLink:
    """The connections to one server. They are opened, and opened again, when a call needs them."""

    def __init__(self, settings: RedisSettings, timeouts: RedisTimeouts) -> None:
        """Connect nothing yet.

        Raises:
            StoreUnusable: the address is not valid.
        """
        options = _options(settings, timeouts)
        self.name = f"Redis at {_place(options)}"
        self.handlers = PoolShare(asyncio.Semaphore(HANDLER_CONNECTIONS), timeouts.handler_seconds)
        """For calls that an HTTP request waits for."""
        self.workers = PoolShare(asyncio.Semaphore(WORKER_CONNECTIONS), timeouts.worker_seconds)
        """For calls that only a worker or a housekeeping loop waits for."""
        self._timeouts = timeouts
        self._pool = ConnectionPool(max_connections=HANDLER_CONNECTIONS + WORKER_CONNECTIONS, **options)
        self._is_closed = False
        self._breaker = _Breaker(rest_seconds=timeouts.rest_seconds)
        self._failures = 0
        self._failures_seen: WeakKeyDictionary[AbstractConnection, int] = WeakKeyDictionary()
        """How many failures there had been when each connection was last used."""

    async def exchange(self, packed: bytes, count: int, share: PoolShare) -> list[Reply]:
        """Send commands in one write, and return their `count` replies, errors included.

        If the connection breaks, all commands are sent once more over another one: every operation of the store may be
        repeated.

        Raises:
            StoreDown: there was no complete reply in time. Whether the commands took effect is not known.
            StoreUnusable: the login was refused.
        """
        async with self._permit(share):
            if self._is_closed:
                raise StoreDown(f"{self.name}: closed")
            # Asked only now, after the wait for a connection: once the server falls silent, all waiting calls fail at
            # once.
            if not self._breaker.admits(time.monotonic()):
                raise StoreDown(f"{self.name}: no answer a moment ago")
            timeout_seconds = share.timeout_seconds
            if self._breaker.is_open:
                # This is the one call that tries the server, while all others fail: it must not take long.
                timeout_seconds = min(timeout_seconds, self._timeouts.handler_seconds)
            return await self._exchange(packed, count, timeout_seconds)

    async def close(self) -> None:
        """Close all connections. Later calls raise StoreDown."""
        self._is_closed = True
        await self._pool.aclose()

    def translated(self, error: Exception) -> StoreError:
        """Return the store's error for one of Redis'. Its text holds no secret."""
        code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
        if code == "OOM":
            return StoreFull(f"{self.name}: out of memory (maxmemory)")
        if code in _LOGIN_REFUSED_CODES or isinstance(error, AuthenticationError):
            return StoreUnusable(f"{self.name}: the login or a command is not permitted ({code})")
        if code in _NOT_READY_CODES or not isinstance(error, ResponseError):
            return StoreDown(f"{self.name}: {code if code in _NOT_READY_CODES else type(error).__name__}")
        return StoreUnusable(f"{self.name}: {error}")

    @contextlib.asynccontextmanager
    async def _permit(self, share: PoolShare) -> AsyncIterator[None]:
        """Hold the permit for one of the share's connections.

        Raises:
            StoreDown: all were in use for the whole pool timeout. Nothing was sent.
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
        """Exchange within the timeout, and tell the breaker how it ended."""
        try:
            async with deadline(timeout_seconds):
                replies = await self._exchange_or_repeat(packed, count)
        except TimeoutError:
            self._fail()
            raise StoreDown(f"{self.name}: no answer within {timeout_seconds:g} s") from None
        except (RedisError, OSError) as error:
            translated = self.translated(error)
            if isinstance(translated, StoreDown):
                self._fail()
            else:
                self._breaker.succeed()
            raise translated from None
        except asyncio.CancelledError:
            self._breaker.abandon()
            raise
        self._breaker.succeed()
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # The server has become a replica. Its name may already belong to the new primary, which only a new
            # connection reaches; so the present ones are used no more.
            self._failures += 1
        return replies

    async def _exchange_or_repeat(self, packed: bytes, count: int) -> list[Reply]:
        try:
            return await self._exchange_once(packed, count)
        except (Disconnected, OSError) as error:
            if self._is_closed or isinstance(error, AuthenticationError):
                raise
            # Usually the server behind the old connection is gone, and another one answers at its address already.
            return await self._exchange_once(packed, count)

    async def _exchange_once(self, packed: bytes, count: int) -> list[Reply]:
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await self._reconnect_if_suspect(connection)
            await connection.send_packed_command(packed, check_health=False)
            return [await _reply(connection) for _ in range(count)]
        except BaseException:
            # A reply may still arrive on it, which the next caller must not read.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)

    async def _reconnect_if_suspect(self, connection: AbstractConnection) -> None:
        """Reconnect one that was last used before the last failure: its other end may be gone by now."""
        if self._failures_seen.setdefault(connection, self._failures) != self._failures:
            self._failures_seen[connection] = self._failures
            await connection.disconnect(nowait=True)
            await connection.connect()  # type: ignore[no-untyped-call]

    def _fail(self) -> None:
        self._failures += 1
        self._breaker.fail(time.monotonic())


@contextlib.asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError inside after `seconds`, but do not take a blocked event loop for a silent server.

    The time is counted in steps, each with a timer of its own. If the event loop is blocked (by a thousand requests
    that arrive together), one step takes long, and still counts as one step only.

    After the last step there is one more, in which replies that have arrived are still read. It is for a block during
    the last step: when it ends, asyncio runs the timers that are overdue before the tasks whose sockets have become
    readable.
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
    """Closed while calls succeed. After a failure it is open: it refuses all calls for a rest, and then all but one."""

    def __init__(self, *, rest_seconds: float) -> None:
        self._rest_seconds = rest_seconds
        self._rests_until: float | None = None
        self._has_probe = False
        """Whether a call is trying the server at this moment."""

    @property
    def is_open(self) -> bool:
        return self._rests_until is not None

    def admits(self, now: float) -> bool:
        """Whether a call may be made. The call that is admitted while open is the probe; it reports its outcome."""
        if self._rests_until is None:
            return True
        if self._has_probe or now < self._rests_until:
            return False
        self._has_probe = True
        return True

    def succeed(self) -> None:
        """Report that the server answered."""
        self._rests_until = None
        self._has_probe = False

    def fail(self, now: float) -> None:
        """Report that it did not."""
        self._rests_until = now + self._rest_seconds
        self._has_probe = False

    def abandon(self) -> None:
        """Report that the call was cancelled, which says nothing about the server."""
        self._has_probe = False


async def _reply(connection: AbstractConnection) -> Reply:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _options(settings: RedisSettings, timeouts: RedisTimeouts) -> dict[str, Any]:
    """Return redis-py's options. Its own retries and timeouts are off, because they add up to seconds."""
    address = settings.address
    try:
        options: dict[str, Any] = dict(parse_url(address if "://" in address else f"redis://{address}"))
    except ValueError:
        # The address may hold a password, so it is not repeated.
        raise StoreUnusable("REDIS_ADDR: expected host:port, or a redis://, rediss:// or unix:// URL") from None
    if settings.password:
        options["password"] = settings.password
    if settings.db:
        options["db"] = settings.db
    options.setdefault("connection_class", Connection)
    return {
        **options,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": timeouts.connect_seconds,
        "driver_info": None,
    }


def _place(options: dict[str, Any]) -> str:
    if "path" in options:
        return str(options["path"])
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
