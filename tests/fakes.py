"""Fakes of the engine's surroundings: a converter that obeys the test, a store that fails on request, and a clock.

The store is a real one behind a wrapper: only the calls to it fail.
"""

import asyncio
import hashlib
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, TypeVar

from tests.fake_playlists import FakePlaylists
from tests.faulty_batches import FaultyBatches
from tests.faulty_client_records import FaultyClientRecords, without_unread
from tests.faulty_values import FaultyValues
from tests.virtual_time import real_time
from ytmp3.converter import ONLY_PASSAGE, Converted, Observer, Passage, ReleaseInUse, ToolCheck, UpdateSurroundings
from ytmp3.converter.live_sound import LiveSound
from ytmp3.converter.settings import Identity
from ytmp3.core import webhook
from ytmp3.core.errors import ConversionError, FailureCode, StoreDown
from ytmp3.core.ids import ClientId, ConversionId, JobId
from ytmp3.core.job import Conversion, Lease, Metadata, Report, Stage, Ticket, Track
from ytmp3.core.recipe import Recipe
from ytmp3.jobstore import (
    ClientRecords,
    Counts,
    Hints,
    JobStore,
    Renewal,
    SharedValues,
    Submission,
    Submitted,
)
from ytmp3.jobstore.found import Found
from ytmp3.jobstore.outbox import Outbox
from ytmp3.jobstore.settings import Policy

T = TypeVar("T")


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


CONTENT_BYTES: Final = 10_240
"""The size of a track that FakeConverter makes, unless a test sets another one."""


def content_of(video_id: str, size_bytes: int = CONTENT_BYTES) -> bytes:
    """Return the track that FakeConverter makes of a video: different for each, the same each time."""
    seed = hashlib.sha256(video_id.encode()).digest()
    return (seed * (size_bytes // len(seed) + 1))[:size_bytes]


def failed_download(code: FailureCode) -> ConversionError:
    """Return the error of an attempt that failed after it had downloaded for a tenth of a second."""
    error = ConversionError(code, "as the test asked")
    error.stage_seconds = {Stage.DOWNLOADING: 0.1}
    return error


class FakeConverter(FakePlaylists):
    """Makes a small track at once, unless a test has set something else for the video."""

    def __init__(self) -> None:
        super().__init__()
        self.title: str | None = None
        """The title of every video; None for one that names the video."""
        self.metadata: dict[str, Metadata] = {}
        """Metadata of videos that have their own. Their tracks have the announced duration."""
        self.size_bytes = CONTENT_BYTES
        """The size of every track."""
        self.contents: dict[str, bytes] = {}
        """Tracks that are not `content_of` their video."""
        self.held: dict[str, asyncio.Event] = {}
        """Videos that convert only once their event is set."""
        self.seconds: dict[str, float] = {}
        """How long videos take, in seconds; 0 for others."""
        self.failing: dict[str, FailureCode] = {}
        """Videos of which every attempt fails, with the code."""
        self.tools = [ToolCheck(name="ffmpeg", ok=True, version="0", detail="a fake")]
        """The result of `check`."""
        self.release_in_use = ReleaseInUse(serial=0, is_refused=False)
        self.started: Counter[str] = Counter()
        """How many attempts have begun, by video."""
        self.order: list[str] = []
        """The video of each attempt that has begun."""
        self.converted: list[str] = []
        """The video of each attempt that has succeeded."""
        self.cancelled: Counter[str] = Counter()
        """How many attempts were cancelled, by video."""
        self.running: set[str] = set()
        """The videos of the attempts under way."""
        self.most_at_once = 0
        """The largest size that `running` has had."""
        self.sounds: dict[str, LiveSound] = {}
        """What listeners hear of the latest attempt, by video. A test that plays the encoder tells it what happens."""
        self._errors: defaultdict[str, deque[BaseException]] = defaultdict(deque)
        self._slow_ends: dict[str, asyncio.Event] = {}

    async def before(self, video_id: str, passage: Passage) -> None:
        """Override to refuse a conversion because of its identity."""

    def hold(self, video_id: str) -> asyncio.Event:
        """Let a video convert only once the returned event is set."""
        return self.held.setdefault(video_id, asyncio.Event())

    def fail(self, video_id: str, *codes: FailureCode) -> None:
        """Let one attempt after the other fail with the next code; after that the video converts."""
        self._errors[video_id].extend(failed_download(code) for code in codes)

    def raise_once(self, video_id: str, error: BaseException) -> None:
        """Let the next attempt raise an error that no converter should raise."""
        self._errors[video_id].append(error)

    def end_slowly(self, video_id: str) -> asyncio.Event:
        """Let a cancelled attempt end only once the returned event is set, as if its processes were slow to end."""
        return self._slow_ends.setdefault(video_id, asyncio.Event())

    def use_identities(self, identities: Sequence[Identity]) -> None: ...

    def refused_cookies(self) -> dict[str, int]:
        return {}

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def long_tracks(self) -> dict[str, int]:
        return {}

    def solutions(self) -> dict[str, int]:
        return {}

    async def check(self) -> list[ToolCheck]:
        """Return the checks that the test has set."""
        return self.tools

    def start_updates(self, surroundings: UpdateSurroundings) -> None:
        pass

    def release_outcomes(self) -> Mapping[tuple[str, str], int]:
        return {}

    def release(self) -> ReleaseInUse:
        return self.release_in_use

    def signs(self) -> dict[str, int]:
        return {}

    async def convert(
        self,
        video_id: str,
        recipe: Recipe,
        client: ClientId,
        scratch: Path,
        observer: Observer,
        passage: Passage = ONLY_PASSAGE,
    ) -> Converted:
        """Make the track, or fail, as the test has set."""
        assert isinstance(observer.sound, LiveSound)
        self.sounds[video_id] = observer.sound
        self.started[video_id] += 1
        self.order.append(video_id)
        self.running.add(video_id)
        self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            await self.before(video_id, passage)
            return await self._convert(video_id, scratch, observer.on_progress)
        except asyncio.CancelledError:
            self.cancelled[video_id] += 1
            if video_id in self._slow_ends:
                await self._slow_ends[video_id].wait()
            raise
        finally:
            self.running.discard(video_id)

    async def _convert(self, video_id: str, scratch: Path, on_progress: Callable[[Report], None]) -> Converted:
        code = self.failing.get(video_id)
        if code is FailureCode.UPSTREAM_UNREACHABLE or code is FailureCode.EGRESS_MISCONFIGURED:
            # YouTube is not reached, so nothing is known of the video.
            raise ConversionError(code, "as the test asked")
        title = f"Title of {video_id}" if self.title is None else self.title
        usual = Metadata(title=title, uploader="Someone", duration_seconds=3.0, thumbnail_url=None)
        metadata = self.metadata.get(video_id, usual)
        on_progress(Report(stage=Stage.DOWNLOADING, progress=0.4, metadata=metadata))
        path = scratch / "track.mp3"
        path.write_bytes(b"not complete yet")
        await asyncio.sleep(self.seconds.get(video_id, 0.0))
        if video_id in self.held:
            await self.held[video_id].wait()
        if code is not None:
            raise failed_download(code)
        if self._errors[video_id]:
            raise self._errors[video_id].popleft()
        content = self.contents.get(video_id) or content_of(video_id, self.size_bytes)
        path.write_bytes(content)
        self.converted.append(video_id)
        return Converted(
            path=path,
            size_bytes=len(content),
            duration_seconds=metadata.duration_seconds or 3.0,
            sha256=hashlib.sha256(content).hexdigest(),
            crc32=zlib.crc32(content),
            metadata=metadata,
            stage_seconds={Stage.DOWNLOADING: 0.1},
        )


class Fault(StrEnum):
    """How a call to the store may go wrong."""

    REFUSED = "refused"
    """The call does not arrive."""
    LOST_REPLY = "lost reply"
    """The call takes effect, but its reply does not arrive."""
    CRASH_BEFORE = "crash before"
    """The instance dies before the call takes effect: neither this call nor a later one arrives."""
    CRASH_AFTER = "crash after"
    """The instance dies after the call has taken effect: no later call arrives."""


class CallStore(Protocol):
    """How a FaultyStore reaches the store behind it."""

    def __call__(self, name: str, operation: Callable[[], Awaitable[T]]) -> Awaitable[T]: ...


class FaultyOutbox:
    """The outbox of a FaultyStore: the faults of the store are set for its calls too."""

    def __init__(self, call: CallStore, outbox: Outbox) -> None:
        self._call = call
        self._outbox = outbox

    async def take(self, limit: int, *, lease_seconds: float) -> list[webhook.Delivery]:
        return await self._call("take", lambda: self._outbox.take(limit, lease_seconds=lease_seconds))

    async def settle(self, settlements: Sequence[webhook.Settlement]) -> None:
        await self._call("settle", lambda: self._outbox.settle(settlements))

    async def of(self, subject_id: str) -> list[webhook.Delivery]:
        return await self._call("of", lambda: self._outbox.of(subject_id))

    async def redeliver(self, delivery_id: webhook.DeliveryId) -> webhook.Delivery | None:
        return await self._call("redeliver", lambda: self._outbox.redeliver(delivery_id))


class FaultyStore:
    """A JobStore that passes every call on to a real one, unless a test has set a fault for it."""

    def __init__(self, store: JobStore, *, is_shared: bool | None = None) -> None:
        """`is_shared`: whether several instances seem to use it; None: as the real store says."""
        self._store = store
        self._is_shared = store.is_shared if is_shared is None else is_shared
        self.calls: list[str] = []
        """The names of all calls so far; `faults` counts them from 1."""
        self.faults: dict[int, Fault] = {}
        self.broken: dict[str, Exception] = {}
        """The error that each of these methods raises, for as long as it is in here."""
        self.held_calls: dict[str, asyncio.Event] = {}
        """The event that each call of these methods waits for before it reaches the store."""
        self.held_replies: dict[str, asyncio.Event] = {}
        """The event that each call of these methods waits for after it has reached the store."""
        self.crashed = asyncio.Event()
        self.fault: str | None = None
        """Why a part of the records cannot be used, as `ping` returns it."""
        self.unread: set[JobId] = set()
        """Jobs in a part of the store that does not reply."""
        self.outbox = FaultyOutbox(self._call, store.outbox)

    async def _call(self, name: str, operation: Callable[[], Awaitable[T]], job_id: JobId | None = None) -> T:
        self.calls.append(name)
        fault = self.faults.get(len(self.calls))
        if name in self.broken:
            raise self.broken[name]
        if name in self.held_calls:
            await self.held_calls[name].wait()
        if fault is Fault.CRASH_BEFORE:
            self.crashed.set()
        if self.crashed.is_set() or fault is Fault.REFUSED or job_id in self.unread:
            raise StoreDown("no answer")
        with real_time():
            result = await operation()
        if name in self.held_replies:
            await self.held_replies[name].wait()
        if fault is Fault.CRASH_AFTER:
            self.crashed.set()
        if fault is not None:
            raise StoreDown("no answer")
        return result

    @property
    def policy(self) -> Policy:
        return self._store.policy

    async def open(self) -> None:
        await self._store.open()

    async def close(self) -> None:
        await self._store.close()

    async def ping(self) -> str | None:
        return await self._call("ping", self._store.ping) or self.fault

    @property
    def is_shared(self) -> bool:
        return self._is_shared

    @property
    def hints(self) -> Hints:
        return self._store.hints

    @property
    def clients(self) -> ClientRecords:
        return FaultyClientRecords(self._store.clients, self._call, self.unread)

    @property
    def values(self) -> SharedValues:
        return FaultyValues(self._store.values, self._call)

    async def agrees_on_shelf(self, mark: str) -> bool:
        return await self._call("agrees_on_shelf", lambda: self._store.agrees_on_shelf(mark))

    async def now(self) -> float:
        return await self._call("now", self._store.now)

    async def retention_time(self) -> float:
        return await self._call("retention_time", self._store.retention_time)

    async def submit(self, submission: Submission, *, may_create: bool, may_join: bool = True) -> Submitted | None:
        job_id = submission.job_id
        return await self._call(
            "submit", lambda: self._store.submit(submission, may_create=may_create, may_join=may_join), job_id
        )

    async def get(self, job_id: JobId, *, may_lag: bool = False) -> Ticket | None:
        return await self._call("get", lambda: self._store.get(job_id, may_lag=may_lag), job_id)

    async def get_many(self, job_ids: Sequence[JobId]) -> Found:
        found = await self._call("get_many", lambda: self._store.get_many(job_ids))
        return without_unread(found, job_ids, self.unread)

    @property
    def batches(self) -> FaultyBatches:
        return FaultyBatches(self._store.batches, self._call)

    async def claim(self, lease: Lease) -> Conversion:
        return await self._call("claim", lambda: self._store.claim(lease))

    async def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        return await self._call("renew", lambda: self._store.renew(renewals))

    async def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        return await self._call("finish", lambda: self._store.finish(lease, track, metadata))

    async def fail(self, lease: Lease, code: FailureCode) -> None:
        await self._call("fail", lambda: self._store.fail(lease, code))

    async def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float, costs_attempt: bool = True) -> None:
        await self._call(
            "retry", lambda: self._store.retry(lease, code, delay_seconds=delay_seconds, costs_attempt=costs_attempt)
        )

    async def release(self, leases: Sequence[Lease]) -> None:
        await self._call("release", lambda: self._store.release(leases))

    async def cancel(self, job_id: JobId) -> Ticket | None:
        return await self._call("cancel", lambda: self._store.cancel(job_id))

    async def adopt(self, limit: int) -> list[Conversion]:
        return await self._call("adopt", lambda: self._store.adopt(limit))

    async def forget(self, conversion_id: ConversionId) -> None:
        await self._call("forget", lambda: self._store.forget(conversion_id))

    async def expire(self, limit: int) -> list[str | None]:
        return await self._call("expire", lambda: self._store.expire(limit))

    async def known_files(self, file_names: Sequence[str]) -> frozenset[str]:
        return await self._call("known_files", lambda: self._store.known_files(file_names))

    async def tracks(self, file_names: Sequence[str]) -> Mapping[str, Track]:
        return await self._call("tracks", lambda: self._store.tracks(file_names))

    async def counts(self) -> Counts:
        return await self._call("counts", self._store.counts)
