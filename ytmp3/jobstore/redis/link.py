"""The wire to Redis: a pool, a deadline for every call, and a breaker.

The rules of this room: what was sent never waits longer than its patience, whatever the server does; only what was
sent and not answered is the server's silence, not the wait for a free connection (that is a crowd) nor a stall of this
process; and a connection whose replies were not all read is closed, never given to the next caller (redis-py's
CVE-2023-28858 crossed replies so).
Commands and replies are redis-py's and hiredis' business; what they mean is the caller's.
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
from ytmp3.jobstore.settings import RedisSettings

HANDLER_SECONDS: Final = 0.22
"""The patience of a call that an HTTP request waits for: with STALL_SECONDS 250 ms, so the answer is out within 300."""
WORKER_SECONDS: Final = 2.0
"""The patience of a call that only a worker or the janitor waits for."""
STALL_SECONDS: Final = 0.03
"""A step of each deadline, and the moment that follows it (see `_deadline`)."""
CONNECT_SECONDS: Final = 2.0
REST_SECONDS: Final = 0.15
"""After a failure, calls fail at once for so long; then one call tries for all."""
HANDLER_CONNECTIONS: Final = 24
"""More wait for a free one: Redis works on one command at a time anyway."""
WORKER_CONNECTIONS: Final = 8
"""Of their own, so that no handler waits behind a worker's patience, and no renewal of a lease behind a crowd."""
QUEUE_SECONDS: Final = 5.0
"""The longest wait for a free connection while the server answers. Measured on 2 cores, the client beside the service:
the last of 1,000 POSTs at once is answered after 0.5 s, the last of 3,000 after 1.6 s."""
_STOPPED_FOR_NOW: Final = frozenset(
    {"LOADING", "MISCONF", "READONLY", "BUSY", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"}
)
_LOGIN_REFUSED: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})

Argument = str | int | bytes
Reply = Any
"""What a command answered: None, int, bytes, a list of such, or the error (a value here: the caller judges it)."""


def pack(commands: Sequence[Sequence[Argument]]) -> bytes:
    """Return the commands as they go over the wire."""
    # hiredis' stub asks for a tuple of one.
    return b"".join(pack_command(tuple(command)) for command in commands)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Lane:
    """Callers of one kind: their share of the connections, and their patience with what was sent over one."""

    places: asyncio.Semaphore
    patience_seconds: float


class RedisLink:
    """The connections to one server. Opens and reopens them as they are needed."""

    def __init__(self, settings: RedisSettings, *, handler_seconds: float = HANDLER_SECONDS) -> None:
        """Raise StoreUnusable if the address is none; nothing is connected yet."""
        options = _options(settings)
        self.name = f"Redis at {_place(options)}"
        self.handlers = Lane(asyncio.Semaphore(HANDLER_CONNECTIONS), handler_seconds)
        """For calls that an HTTP request waits for."""
        self.workers = Lane(asyncio.Semaphore(WORKER_CONNECTIONS), WORKER_SECONDS)
        """For calls that only a worker or the janitor waits for."""
        self._pool = ConnectionPool(max_connections=HANDLER_CONNECTIONS + WORKER_CONNECTIONS, **options)
        self._is_closed = False
        self._breaker = _Breaker()
        self._failures = 0
        self._failures_seen: WeakKeyDictionary[AbstractConnection, int] = WeakKeyDictionary()

    async def exchange(self, packed: bytes, count: int, lane: Lane) -> list[Reply]:
        """Send commands in one write and return their `count` replies, errors included.

        After a lost connection all are sent once more: every operation of the store may be repeated.

        Raises:
            StoreDown: no complete answer in time; whether the commands took effect is not known.
            StoreUnusable: the login was refused.
        """
        async with self._place(lane):
            if self._is_closed:
                raise StoreDown(f"{self.name}: closed")
            # Judged when the call's turn has come: once the server is silent, those that wait fail at once, too.
            if not self._breaker.admits(time.monotonic()):
                raise StoreDown(f"{self.name}: no answer a moment ago")
            patience = lane.patience_seconds
            if self._breaker.is_open:
                # The one call that tries for all must not hold up the others for long.
                patience = min(patience, HANDLER_SECONDS)
            return await self._judged(packed, count, patience)

    async def close(self) -> None:
        self._is_closed = True
        await self._pool.aclose()

    def translated(self, error: Exception) -> StoreError:
        """Return the store's error for one of Redis'; its text holds no secret."""
        code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
        if code == "OOM":
            return StoreFull(f"{self.name}: out of memory (maxmemory)")
        if code in _LOGIN_REFUSED or isinstance(error, AuthenticationError):
            return StoreUnusable(f"{self.name}: the login or a command is not permitted ({code})")
        if code in _STOPPED_FOR_NOW or not isinstance(error, ResponseError):
            return StoreDown(f"{self.name}: {code if code in _STOPPED_FOR_NOW else type(error).__name__}")
        return StoreUnusable(f"{self.name}: {error}")

    @contextlib.asynccontextmanager
    async def _place(self, lane: Lane) -> AsyncIterator[None]:
        """Hold one of the lane's connections.

        Raises:
            StoreDown: all are in use, and still after QUEUE_SECONDS. Nothing was sent.
        """
        try:
            async with asyncio.timeout(QUEUE_SECONDS if lane.places.locked() else None):
                await lane.places.acquire()
        except TimeoutError:
            raise StoreDown(f"{self.name}: more calls than it answers") from None
        try:
            yield
        finally:
            lane.places.release()

    async def _judged(self, packed: bytes, count: int, patience_seconds: float) -> list[Reply]:
        """Call, and let the breaker know what came of it."""
        try:
            async with _deadline(patience_seconds):
                replies = await self._twice(packed, count)
        except TimeoutError:
            self._fail()
            raise StoreDown(f"{self.name}: no answer within {patience_seconds:g} s") from None
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
            # It was demoted. Its name may lead to its successor by now: a new connection will, an old one never.
            self._failures += 1
        return replies

    async def _twice(self, packed: bytes, count: int) -> list[Reply]:
        try:
            return await self._once(packed, count)
        except (Disconnected, OSError) as error:
            if self._is_closed or isinstance(error, AuthenticationError):
                raise
            # As a rule the connection died with the server it led to, and a new one is there already.
            return await self._once(packed, count)

    async def _once(self, packed: bytes, count: int) -> list[Reply]:
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await self._renew_if_distrusted(connection)
            await connection.send_packed_command(packed, check_health=False)
            return [await _reply(connection) for _ in range(count)]
        except BaseException:
            # A reply may still be under way, and it is nobody else's.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)

    async def _renew_if_distrusted(self, connection: AbstractConnection) -> None:
        """Reconnect one that is older than the last failure: its other end may be gone without a word."""
        if self._failures_seen.setdefault(connection, self._failures) != self._failures:
            self._failures_seen[connection] = self._failures
            await connection.disconnect(nowait=True)
            await connection.connect()  # type: ignore[no-untyped-call]

    def _fail(self) -> None:
        self._failures += 1
        self._breaker.fail(time.monotonic())


@contextlib.asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError inside after `seconds`, and a moment in which what has arrived is still read.

    The time is counted in steps, so that a stall of this process (a thousand requests come in at once) counts as one,
    and is not taken for silence of the server. The moment is for a stall in the last step: asyncio runs the timers that
    fell due meanwhile before the tasks whose replies came in meanwhile.
    """
    loop = asyncio.get_running_loop()
    left = seconds
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as limit:

        def step() -> None:
            nonlocal left, timer
            left -= STALL_SECONDS
            if left > 0:
                timer = loop.call_later(min(left, STALL_SECONDS), step)
            else:
                limit.reschedule(loop.time() + STALL_SECONDS)

        timer = loop.call_later(min(left, STALL_SECONDS), step)
        try:
            yield
        finally:
            timer.cancel()


class _Breaker:
    """Closed while all is well; after a failure open for a rest, and then for all but one call until one succeeds."""

    def __init__(self) -> None:
        self._rests_until: float | None = None
        self._is_probed = False

    @property
    def is_open(self) -> bool:
        return self._rests_until is not None

    def admits(self, now: float) -> bool:
        if self._rests_until is None:
            return True
        if self._is_probed or now < self._rests_until:
            return False
        self._is_probed = True
        return True

    def succeed(self) -> None:
        self._rests_until = None
        self._is_probed = False

    def fail(self, now: float) -> None:
        self._rests_until = now + REST_SECONDS
        self._is_probed = False

    def abandon(self) -> None:
        self._is_probed = False


async def _reply(connection: AbstractConnection) -> Reply:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _options(settings: RedisSettings) -> dict[str, Any]:
    """Return redis-py's options. Retries and timeouts are this room's own: redis-py's add up to seconds."""
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
        "socket_connect_timeout": CONNECT_SECONDS,
        "driver_info": None,
    }


def _place(options: dict[str, Any]) -> str:
    if "path" in options:
        return str(options["path"])
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
