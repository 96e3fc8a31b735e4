"""The server's side of one downloading child: its events, its limits, its end.

The child is not trusted to keep any limit: the server itself times extraction, download and silence, and measures the
spool on disk. A line from the child that is not a valid event is dropped.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from ytmp3.converter.sandbox.pipes import DRAIN_SECONDS, Lines, Reader, Tail, resolve
from ytmp3.converter.sandbox.protocol import Profile, ResourceLimits
from ytmp3.converter.sandbox.spawner import Child, Spawner, ZygoteError
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.spool import Spool
from ytmp3.converter.youtube.events import (
    MAX_LINE_BYTES,
    CoverWritten,
    Downloaded,
    Extracted,
    Extraction,
    ExtractionWanted,
    Facts,
    Failed,
    SpoolGrown,
    SpoolOpened,
    Waiting,
    decode_event,
)
from ytmp3.converter.youtube.permits import Permits, TakeSlot
from ytmp3.core.errors import ConversionError, FailureCode, NoProcess
from ytmp3.threads import Threads

WATCH_SECONDS: Final = 1.0
"""Longest pause between two checks of the limits; a quarter of the idle limit where that is shorter."""

SPOOL_SLACK_BYTES: Final = 8 * 2**20
"""How far the child's RLIMIT_FSIZE is above the byte limit, so that the limit's own, clearer error comes first."""

DATA_BYTES: Final = 2 * 2**30
"""Private memory, used or only reserved (RLIMIT_DATA), of the child, and of the deno that it starts where the solver
does not answer, each. Whatever exceeds the bounds on responses ends the child and not the machine. Measured: the child
uses 30 MB; deno with a real player script reserves 0.85 GB, and uses 0.3 GB of it."""

SOLVER_SHARE: Final = 0.4
"""Which part of the time for the extraction the child may wait for the solver. It takes 3 s for a new player script and
1 ms for a known one. The rest must suffice for the deno that yt-dlp starts then, which takes 2 to 10 s."""

SLOWEST_BYTES_PER_SECOND: Final = 16_000
"""A download that is slower than this during the whole idle limit counts as stalled. 16 kB/s are 128 kbit/s, about the
bit rate of YouTube's audio: a slower one would take longer than the video plays."""


LONGEST_WAIT_SECONDS: Final = 300.0
"""How long a child may say that no byte comes. Far above the length of YouTube's advertisements before a video."""


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """Descriptors of one child's ends of its connections to the server. They stay the caller's."""

    solver: int
    tokens: int | None = None
    """For proof-of-origin tokens; None: there is no provider."""
    token_seconds: float | None = None

    def descriptors(self, permits: int) -> tuple[int, ...]:
        """Return all descriptors in the order that the child expects (`events`)."""
        return (permits, self.solver) if self.tokens is None else (permits, self.solver, self.tokens)

    def with_time_limits(self, extraction: Extraction, extract_seconds: float) -> Extraction:
        """Return the task with how long the child may wait for answers."""
        seconds = SOLVER_SHARE * extract_seconds
        return msgspec.structs.replace(extraction, solver_seconds=seconds, token_seconds=self.token_seconds)


class Fetch:
    """Extraction and download of one video. Needs a running event loop.

    Its caller holds a slot of the extractions during the first extraction. Later ones take theirs with `take_slot`.
    `files` are threads for calls of files.
    """

    def __init__(self, scratch: Path, limits: ConversionLimits, take_slot: TakeSlot, files: Threads) -> None:
        loop = asyncio.get_running_loop()
        self._files = files
        self._scratch = scratch
        self._limits = limits
        self._permits = Permits(take_slot)
        self._child: Child | None = None
        self._readers: list[Reader] = []
        self._measuring: asyncio.Future[int] | None = None
        """The measurement of the spool, in a thread."""
        self._last_bytes = 0
        """Its last result."""
        self._error: ConversionError | None = None
        self._extracted: asyncio.Future[Extracted] = loop.create_future()
        self._waits_until = 0.0
        """Until then (on the monotonic clock) the child has said that no byte comes."""
        self._spool_opened = asyncio.Event()
        self._downloaded: asyncio.Future[None] = loop.create_future()
        self.facts: Facts | None = None
        """What the child reported last about the extraction; None: nothing."""
        self.chosen: Extracted | None = None
        """The result of the latest extraction; None: no extraction has succeeded yet."""
        self.served: Downloaded | None = None
        """Of a complete download: by which way YouTube was asked, and which had failed before."""
        self.spool: Spool | None = None
        self.cover: asyncio.Future[CoverWritten | None] = loop.create_future()
        """Done when the cover is written, or when it is known that there will be none (None)."""
        self.log = Tail()
        """The end of what the child wrote to its standard output and error."""

    async def start(
        self, spawner: Spawner, extraction: Extraction, profile: Profile, connections: Connections | None = None
    ) -> None:
        """Fork the child. `connections`: its connections to the solver and the token provider; tests have none.

        `profile` is what the child may reach besides its scratch folder.

        Raises:
            ZygoteError: it could not be forked.
        """
        seconds = self._limits.extract_seconds + self._limits.download_seconds
        limits = ResourceLimits(
            file_bytes=self._limits.max_file_bytes + SPOOL_SLACK_BYTES,
            cpu_seconds=int(2 * seconds) + 1,
            data_bytes=DATA_BYTES,
            network=True,
            profile=msgspec.structs.replace(profile, writable=(extraction.scratch,)),
        )
        log_ours, log_theirs = os.pipe()
        events_ours, events_theirs = os.pipe()
        lines = Lines(MAX_LINE_BYTES, self._on_line)
        events = Reader(events_ours, lines.add)
        # No event can come after the end of file, so there is no cover if none has been written until then.
        events.ended.add_done_callback(lambda _: resolve(self.cover, None))
        self._readers = [Reader(log_ours, self.log.add), events]
        try:
            permits = self._permits.open()
            more: tuple[int, ...] = (permits,)
            if connections is not None:
                more = connections.descriptors(permits)
                extraction = connections.with_time_limits(extraction, self._limits.extract_seconds)
            task = msgspec.json.encode(extraction)
            self._child = await spawner.fork(task, limits, log=log_theirs, events=events_theirs, more=more)
        finally:
            os.close(log_theirs)
            os.close(events_theirs)

    async def extracted(self) -> Extracted:
        """Wait until the extraction is over.

        Raises:
            ConversionError: it failed, or took too long.
        """
        await _first_of(self._extracted, self._started_child.ended, seconds=self._limits.extract_seconds)
        if not self._extracted.done() and not self._started_child.ended.done():
            raise ConversionError(FailureCode.UPSTREAM_TIMEOUT, "extraction")
        if not self._extracted.done():
            await self._last_events()
        if not self._extracted.done():
            raise self._failure()
        return self._extracted.result()

    async def current_spool(self) -> Spool:
        """Return the spool of the running download, waiting until there is one. It may be replaced later."""
        while self.spool is None:
            await self._spool_opened.wait()
        return self.spool

    async def watch(self) -> None:
        """Enforce the limits until the download is complete.

        Raises:
            ConversionError: it failed, or exceeded a limit.
        """
        watch = Watch(self._limits, time.monotonic)
        while not self._downloaded.done():
            pause = min(WATCH_SECONDS, self._limits.idle_seconds / 4)
            await _first_of(self._downloaded, self._started_child.ended, seconds=pause)
            if self._permits.used_seconds > self._limits.extract_seconds:
                raise ConversionError(FailureCode.UPSTREAM_TIMEOUT, "extraction in mid-download")
            size_bytes = await self._size_on_disk()
            watch.check(size_bytes, waits_until=self._waits_until, is_extracting=self._permits.is_wanted)
            if self._started_child.ended.done() and not self._downloaded.done():
                await self._last_events()
                if not self._downloaded.done():
                    raise self._failure()

    async def _size_on_disk(self) -> int:
        """Return the size of the spool. If the disk hangs, return the last size, so that the limits stay in force."""
        if self.spool is not None and (self._measuring is None or self._measuring.done()):
            self._measuring = asyncio.ensure_future(self._files.run(_size_of, self.spool.path))
        if self._measuring is not None:
            await asyncio.wait([self._measuring], timeout=WATCH_SECONDS)
            if self._measuring.done():
                self._last_bytes = self._measuring.result()
        return self._last_bytes

    async def end(self) -> None:
        """End the child and close its pipes. Called whatever has happened, also without a child."""
        if self._child is not None:
            await self._child.end()
        for reader in self._readers:
            reader.close()
        await self._permits.close()  # after the readers: a late event cannot ask for another permit
        if self._measuring is not None:
            self._measuring.cancel()

    @property
    def _started_child(self) -> Child:
        if self._child is None:
            raise RuntimeError("not started")
        return self._child

    async def _last_events(self) -> None:
        """Read what is still in the pipes of a child that has ended."""
        await asyncio.wait([reader.ended for reader in self._readers], timeout=DRAIN_SECONDS)

    def _failure(self) -> ConversionError:
        """Return why the ended child has failed: the error that it sent, or else one made from its exit status."""
        if self._error is not None:
            return self._error
        try:
            status = self._started_child.ended.result().status
        except ZygoteError as error:
            return NoProcess(str(error))
        return ConversionError(FailureCode.TOOL_MISSING, f"the youtube child ended with {status} without an error")

    def _on_line(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        match event:
            case Extracted():
                self.facts, self.chosen = event.facts, event
                self._permits.give_back()
                resolve(self._extracted, event)
            case ExtractionWanted() if self._extracted.done():
                self._permits.want()
            case ExtractionWanted():
                pass  # The first extraction has its slot already.
            case Waiting():
                self._waits_until = time.monotonic() + min(event.seconds, LONGEST_WAIT_SECONDS)
            case CoverWritten():
                resolve(self.cover, event)
            case Failed():
                self.facts = event.facts
                self._error = ConversionError(_known_code(event.code), event.reason)
            case SpoolOpened() | SpoolGrown() | Downloaded():
                self._on_spool_event(event)

    def _on_spool_event(self, event: SpoolOpened | SpoolGrown | Downloaded) -> None:
        match event:
            case SpoolOpened():
                # Use only the last part of the name, so that the child cannot name a file outside the scratch folder.
                self._open_spool(self._scratch / Path(event.name).name)
            case SpoolGrown() if self.spool:
                self.spool.grow(event.size_bytes, event.total_bytes)
            case Downloaded() if self.spool:
                self.spool.complete(event.size_bytes)
                self.served = event
                resolve(self._downloaded, None)

    def _open_spool(self, path: Path) -> None:
        if self.spool is not None and self.spool.path != path:
            self.spool.replace()
            self.spool = None
        if self.spool is None:
            self.spool = Spool(path)
        self._spool_opened.set()


class Watch:
    """The time and size limits of one download. `clock` is in seconds."""

    def __init__(self, limits: ConversionLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._begun_at = self._window_at = self._checked_at = clock()
        self._window_bytes = 0

    def check(self, size_bytes: int, *, waits_until: float = 0.0, is_extracting: bool = False) -> None:
        """Raise ConversionError if a limit is exceeded now, with this size of the spool.

        The idle clock begins at `waits_until` at the earliest. Both clocks stop while the child extracts again or
        waits for that.
        """
        now = self._clock()
        if is_extracting:
            self._begun_at += now - self._checked_at
            self._window_at = now
        self._checked_at = now
        self._window_at = max(self._window_at, waits_until)
        if size_bytes > self._limits.max_file_bytes:
            raise ConversionError(FailureCode.TOO_LARGE, f"{size_bytes} bytes on disk")
        if now - self._begun_at > self._limits.download_seconds:
            raise ConversionError(FailureCode.UPSTREAM_TIMEOUT, "download")
        if now - self._window_at < self._limits.idle_seconds:
            return
        if size_bytes - self._window_bytes < SLOWEST_BYTES_PER_SECOND * self._limits.idle_seconds:
            raise ConversionError(FailureCode.UPSTREAM_TIMEOUT, "no or next to no bytes arrive")
        self._window_at, self._window_bytes = now, size_bytes


async def _first_of(*futures: asyncio.Future[Any], seconds: float) -> None:
    await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


def _size_of(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _known_code(code: str) -> FailureCode:
    try:
        return FailureCode(code)
    except ValueError:
        return FailureCode.UPSTREAM_ERROR
