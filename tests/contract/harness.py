"""Opens either adapter for a test: on a clock that the test moves, and again on the same records, as after a crash."""

import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

import redis
from msgspec.structs import replace

from tests.fakes import Clock
from tests.stand.redis_cluster import ClusterClient
from ytmp3.core.ids import (
    ClientId,
    ConversionId,
    ConversionKey,
    InstanceId,
    JobId,
    VideoId,
    new_conversion_id,
    new_job_id,
)
from ytmp3.core.job import Conversion, Lease, Metadata, Ticket, Track, track_file_name
from ytmp3.core.recipe import DEFAULT_RECIPE, conversion_key
from ytmp3.core.states import ELSEWHERE_SECONDS, HEAD_START_SECONDS
from ytmp3.jobstore import Counts, JobStore, Outcome, Submission, Submitted
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.settings import Policy, RedisTimeouts
from ytmp3.jobstore.sqlite import SqliteJobStore

UNKNOWN_LEASE: Final = Lease(conversion_id=ConversionId("0" * 34), token=9, holder=InstanceId("a"))
"""A lease of a conversion that does not exist."""
POLICY: Final = Policy(lease_seconds=30.0, retention_seconds=3600.0, crash_limit=3)
POLICIES: Final = {
    "a": replace(POLICY, jobs_of_conversion=4),
    "b": replace(POLICY, jobs_of_conversion=4, retention_seconds=900.0),
}
"""Two instances on one store whose JOB_EXPIRATION_HOURS differ. So few jobs of a conversion that some reach it."""
PATIENT: Final = RedisTimeouts(handler_seconds=60.0, worker_seconds=60.0, connect_seconds=60.0, pool_seconds=60.0)
"""For tests of what the store does, not of how soon: no busy machine reaches them."""
METADATA: Final = Metadata(title="Song ünïcode", uploader=None, duration_seconds=212.5, thumbnail_url=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """The content of an adapter's indexes, read directly from its database. By conversion id, except `current`, by
    key."""

    current: dict[ConversionKey, ConversionId]
    due_at: dict[ConversionId, float]
    expires_at: dict[ConversionId, float]


class Harness(Protocol):
    """Opens stores on the same records."""

    clock: Clock
    """The store's clock. Setting it (`set_clock`) differs from letting time pass (`clock.advance`)."""
    shared: bool
    """Whether several instances may be open at once."""
    head_start_seconds: float
    """How long an instance leaves a conversion that it has failed to the others."""
    elsewhere_seconds: float
    """The same for a conversion that has crashed there too often, and nowhere else."""

    async def open(self, instance: str = "a", policy: Policy = POLICY) -> JobStore: ...

    async def close(self) -> None: ...

    def set_clock(self, seconds: float) -> None:
        """Set the store's clock forward, or back. A store on a file notices when it is next opened."""
        ...

    def indexes(self) -> Indexes: ...

    def snapshot(self) -> Callable[[], None]:
        """Copy all records, as a replica does or a backup.

        Returns:
            What puts the records back as they were, and so loses every later write. Stores on a file must be closed
            before, and opened again.
        """
        ...


class SqliteHarness:
    shared = False
    head_start_seconds = 0.0
    elsewhere_seconds = 0.0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self._store: SqliteJobStore | None = None

    async def open(self, instance: str = "a", policy: Policy = POLICY) -> JobStore:
        await self.close()
        self._store = SqliteJobStore(self.path, policy, InstanceId(instance), clock=self.clock, lock_wait_seconds=0.0)
        await self._store.open()
        return self._store

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()
            self._store = None

    def set_clock(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def indexes(self) -> Indexes:
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            return Indexes(
                current=dict(connection.execute("SELECT key, conversion_id FROM conversions WHERE serving = 1")),
                due_at=dict(connection.execute("SELECT conversion_id, due_at FROM conversions WHERE due_at NOT NULL")),
                expires_at=dict(
                    connection.execute("SELECT conversion_id, expires_at FROM conversions WHERE expires_at NOT NULL")
                ),
            )

    def snapshot(self) -> Callable[[], None]:
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            copy = connection.serialize()

        def put_back() -> None:
            for file in self.path.parent.glob(f"{self.path.name}-*"):
                file.unlink()
            self.path.write_bytes(copy)

        return put_back


class RedisHarness:
    """Stores on a Redis server or on a Redis Cluster."""

    shared = True
    head_start_seconds = HEAD_START_SECONDS
    elsewhere_seconds = ELSEWHERE_SECONDS

    def __init__(
        self,
        settings: RedisSettings,
        clock: Callable[[], float] | None = None,
        *,
        make_client: Callable[[], redis.Redis] | None = None,
    ) -> None:
        """Set up the harness. `make_client` returns `client`; by default, that of the single server at the address."""
        self.settings = settings
        self.clock = Clock()
        self._clock = self.clock if clock is None else clock
        self._set_by = 0.0
        self._stores: list[RedisJobStore] = []
        self._make_client = make_client or self._client_of_single_server
        self.client = self._make_client()
        """Looks behind the store. `close` closes it."""

    def with_prefix(self, prefix: str) -> "RedisHarness":
        """Return a harness of another installation in the same database. The caller closes it."""
        return RedisHarness(dataclasses.replace(self.settings, prefix=prefix), make_client=self._make_client)

    def _client_of_single_server(self) -> redis.Redis:
        host, _, port = self.settings.address.partition(":")
        return redis.Redis(host=host, port=int(port), protocol=2)

    def tell_servers(self, *command: str) -> list[object]:
        """Send a command without a key to the server, or to each primary of the cluster. Returns the replies."""
        if isinstance(self.client, ClusterClient):
            return self.client.tell_primaries(*command)
        return [cast("Callable[..., object]", self.client.execute_command)(*command)]

    async def open(self, instance: str = "a", policy: Policy = POLICY) -> JobStore:
        store = RedisJobStore(
            self.settings, policy, InstanceId(instance), clock=self._clock, monotonic=self.monotonic, timeouts=PATIENT
        )
        await store.open()
        self._stores.append(store)
        return store

    async def close(self) -> None:
        while self._stores:
            await self._stores.pop().close()
        self.client.close()

    def set_clock(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self._set_by += seconds

    def seconds_left(self, some_id: str) -> float:
        """Return the time to live of the record, the entry or the reservation with this id, key or name."""
        (name,) = cast("list[bytes]", self.client.keys(f"ytmp3:*:[cijk]:{some_id}"))
        return self.client.pttl(name) / 1000

    def seconds_until_shelf_is_free(self) -> float:
        return self.client.pttl("ytmp3:{00}:shelf") / 1000

    def write(self, conversion_id: ConversionId, fields: Mapping[str, str]) -> None:
        """Change fields of a conversion's record, as another version would."""
        for name, value in fields.items():
            self.client.hset(Keys().conversion_at(conversion_id), name, value)

    def forget_shelf(self) -> None:
        """Do what the server does at the end of that time."""
        self.client.delete("ytmp3:{00}:shelf")

    def monotonic(self) -> float:
        return self._clock() - self._set_by

    def indexes(self) -> Indexes:
        names = cast("list[bytes]", self.client.keys("ytmp3:*"))
        return Indexes(
            current={
                ConversionKey(name.decode().partition(":k:")[2]): ConversionId(
                    cast("bytes", self.client.get(name)).decode()
                )
                for name in names
                if b":k:" in name
            },
            due_at=_scores(self.client, [name for name in names if name.endswith(b":live")]),
            expires_at=_scores(self.client, [name for name in names if name.endswith(b":ended")]),
        )

    def snapshot(self) -> Callable[[], None]:
        names = cast("list[bytes]", self.client.keys("*"))
        copies = [(name, self.client.pttl(name), self.client.dump(name)) for name in names]

        def put_back() -> None:
            self.client.flushall()
            for name, milliseconds, copy in copies:
                self.client.restore(name, max(0, milliseconds), cast("bytes", copy))

        return put_back


def _scores(client: redis.Redis, names: list[bytes]) -> dict[ConversionId, float]:
    scores: dict[ConversionId, float] = {}
    for name in names:
        members = cast("list[tuple[bytes, float]]", client.zrange(name, 0, -1, withscores=True))
        scores.update((ConversionId(member.decode()), score) for member, score in members)
    return scores


class Ids:
    """Makes submissions whose ids are the same in each run: a counter takes the place of random bytes."""

    def __init__(self, *, first: int = 0) -> None:
        self._count = first

    def submission(self, video: int = 1, *, client: str = "addr:192.0.2.1") -> Submission:
        video_id = VideoId(f"video{video:06d}")
        key = conversion_key(video_id, DEFAULT_RECIPE)
        return Submission(
            job_id=new_job_id(key, self._chance()),
            conversion_id=new_conversion_id(key, self._chance()),
            video_id=video_id,
            recipe=DEFAULT_RECIPE,
            client=ClientId(client),
        )

    def _chance(self) -> bytes:
        self._count += 1
        return self._count.to_bytes(16, "big")


def track_of(lease: Lease) -> Track:
    return Track(
        file_name=track_file_name(lease, DEFAULT_RECIPE),
        size_bytes=5_000_000,
        duration_seconds=212.4,
        sha256="ab" * 32,
        published_at=1_700_000_000.25,
    )


async def submitted(store: JobStore, submission: Submission) -> Submitted:
    """Submit, and check that it was stored."""
    result = await store.submit(submission, may_create=True)
    assert result is not None
    return result


async def created(store: JobStore, submission: Submission) -> Conversion:
    """Submit, check that a conversion was created, and return it."""
    result = await submitted(store, submission)
    assert result.outcome is Outcome.CREATED
    return result.ticket.conversion


async def running(store: JobStore, submission: Submission) -> Conversion:
    """Create a conversion and claim it."""
    return await store.claim((await created(store, submission)).lease)


async def done(store: JobStore, submission: Submission) -> Conversion:
    """Create a conversion, claim and finish it."""
    conversion = await running(store, submission)
    return await store.finish(conversion.lease, track_of(conversion.lease), METADATA)


def counts(*, pending: int = 0, processing: int = 0, completed: int = 0, failed: int = 0, cancelled: int = 0) -> Counts:
    return Counts(pending=pending, processing=processing, completed=completed, failed=failed, cancelled=cancelled)


async def ticket_of(store: JobStore, job_id: JobId) -> Ticket:
    ticket = await store.get(job_id)
    assert ticket is not None
    return ticket


async def adopt_expired(harness: Harness, store: JobStore) -> list[Conversion]:
    """Let every lease run out, and adopt what is due."""
    harness.clock.advance(POLICY.lease_seconds + 1)
    return await store.adopt(100)
