"""Finds out what YouTube offers for a video, without a conversion: for `POST /probe`.

A description costs one extraction. So it is kept for some minutes, requests for the same video at the same time share
one extraction, and the number of extractions at once is bounded, also for each client. An extraction takes a token of
the hourly budget of an identity, as a conversion does, and its outcome counts for the identity and the circuit breaker.
The probes of one client use at most a part of the budget. While conversions are paused, YouTube is not asked.

A request waits for a shorter time than proxies do. If it ends without a result, the extraction goes on, and a repeated
request gets the result.

Why probes are bounded more strictly than conversions: a conversion waits in a queue that is fair and visible, but a
probe holds a request open. Without a limit of their own, the probes of one client could use up the hourly budget, and
the conversions of all clients would wait.

Results are kept in memory only, and each instance has its own. To lose them costs one extraction.
"""

import asyncio
import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ytmp3.converter import Converter
from ytmp3.core.buckets import TokenBuckets
from ytmp3.core.description import Description, ProbeFailed, ProbePending, ProbeRefused
from ytmp3.core.errors import (
    ClientQuota,
    ConversionError,
    Draining,
    FailureCode,
    Fault,
    NoProcess,
    QueueFull,
    Unready,
    UpstreamBlocked,
)
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.link import parse_video_id
from ytmp3.core.sharing import may_take_more
from ytmp3.engine import events
from ytmp3.engine.capacity import UNREADY_RETRY_SECONDS
from ytmp3.engine.events import Events, ProbeOutcome
from ytmp3.engine.grants import Grant
from ytmp3.engine.health import Health
from ytmp3.engine.intake import DRAIN_RETRY_SECONDS
from ytmp3.engine.upstream import Upstream
from ytmp3.storage.scratch import Scratch

KEPT_SECONDS: Final = 600.0
"""How long a description is kept, in seconds. A user can fill in a form meanwhile, and few videos change so soon."""
KEPT_FAILURE_SECONDS: Final = 60.0
"""The same for a video that cannot be converted: its owner may be about to publish it."""
MAX_KEPT: Final = 500
"""Most descriptions that are kept. One has 1 kB; with many chapters, up to 30 kB."""
MAX_OPEN: Final = 40
"""Most extractions for descriptions that run or wait for a slot: twice the usual number of conversions at once. No
client may have more of them than remain free for others (see `core.sharing.may_take_more`)."""
CLIENT_SHARE: Final = 0.5
"""The part of the hourly budget of all identities that the probes of one client may use. Each instance counts for
itself."""
BURST_SECONDS: Final = 300.0
"""A client may use the share of this time at once."""
WAIT_SECONDS: Final = 10.0
"""Longest wait of a request, in seconds. Most extractions take two to five; nginx gives up after 15 s."""
RETRY_SECONDS: Final = 5
"""The `Retry-After`, in seconds, where nothing better is known: about the time of an extraction."""

log = logging.getLogger(__name__)

Result = Description | ConversionError | UpstreamBlocked


class _Kept(Struct, frozen=True, kw_only=True):
    """A result, and until when it is used."""

    result: Result
    until: float


class Descriptions:
    """Extracts descriptions with the converter, and keeps them. `clock` is monotonic."""

    def __init__(
        self,
        converter: Converter,
        scratch: Scratch,
        upstream: Upstream,
        *,
        health: Health,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._converter = converter
        self._scratch = scratch
        self._upstream = upstream
        self._health = health
        self._events = events
        self._clock = clock
        self._kept: OrderedDict[VideoId, _Kept] = OrderedDict()
        self._asking: dict[VideoId, asyncio.Task[Result]] = {}
        self._of_client: Counter[ClientId] = Counter()
        self._shares: tuple[int, TokenBuckets] | None = None
        """The shares of clients, with the budget that they are parts of."""
        self._folders = 0

    async def of(self, link: str, client: ClientId) -> tuple[VideoId, Description]:
        """Return what YouTube offers of the video that a link names.

        Raises:
            UnsupportedUrl, NotAVideo
            ProbeRefused: the video cannot be converted.
            ProbeFailed: YouTube, or this service, has failed.
            ProbePending: the extraction has not ended within WAIT_SECONDS.
            ClientQuota, QueueFull, Draining, Unready, UpstreamBlocked: no extraction was started.
        """
        video_id = parse_video_id(link)
        kept = self._kept.get(video_id)
        if kept is not None and self._clock() < kept.until:
            return video_id, self._told(kept.result, ProbeOutcome.CACHED)
        task, outcome = self._asking.get(video_id), ProbeOutcome.JOINED
        if task is None:
            self._check_may_ask(client)
            outcome = ProbeOutcome.EXTRACTED
            self._of_client[client] += 1
            task = self._asking[video_id] = asyncio.create_task(self._ask(video_id, client), name="probe")
            task.add_done_callback(lambda _: self._forget(video_id, client))
        # The extraction is not cancelled when one client leaves or its request times out: others may wait for it.
        done, _ = await asyncio.wait([task], timeout=WAIT_SECONDS)
        if not done:
            self._events.emit(events.ProbeAnswered(outcome=ProbeOutcome.LATE, code=None))
            raise ProbePending(retry_after_seconds=RETRY_SECONDS)
        return video_id, self._told(task.result(), outcome)

    async def close(self) -> None:
        """End all extractions."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check_may_ask(self, client: ClientId) -> None:
        """Raise the error for which no probe of this client can start now; otherwise take its share.

        A probe is refused rather than queued: its client waits for the response, and can ask again. The order of the
        checks is that of their meaning to the client: first what concerns the whole service, then this instance, then
        the client.
        """
        if self._health.is_draining:
            raise Draining(retry_after_seconds=DRAIN_RETRY_SECONDS)
        if self._health.fault is not None:
            raise Unready(retry_after_seconds=UNREADY_RETRY_SECONDS)
        # Only a conversion may be the trial that ends a pause, because it also tests the download.
        if self._upstream.cause is not None or not self._upstream.may_start:
            raise self._blocked()
        held, in_use = self._of_client[client], self._of_client.total()
        if in_use >= MAX_OPEN:
            text = "This instance already runs as many probes at once as it may. Send the request again later."
            raise QueueFull(text, retry_after_seconds=RETRY_SECONDS)
        if not may_take_more(held, in_use, MAX_OPEN):
            text = "This client already has as many probes at once as it may. Wait for their responses."
            raise ClientQuota(text, retry_after_seconds=RETRY_SECONDS)
        self._take_share(client)

    def _take_share(self, client: ClientId) -> None:
        """Take from the client's part of the hourly budget, so that others have the rest.

        The buckets are made anew when the budget changes, for example after a SIGHUP: they begin full, so a reload may
        give a client its share once more. Without a budget there is nothing to share.
        """
        budget = self._upstream.identities.videos_per_hour
        if not budget:
            return
        if self._shares is None or self._shares[0] != budget:
            rate_per_second = CLIENT_SHARE * budget / 3600.0
            burst = max(1, int(rate_per_second * BURST_SECONDS))
            self._shares = budget, TokenBuckets(rate_per_second=rate_per_second, burst=burst)
        shares = self._shares[1]
        if not shares.take(client, self._clock()):
            text = "This client has used its share of the hourly budget for probes. Its jobs are not affected."
            seconds = math.ceil(shares.state(client, self._clock()).wait_seconds)
            raise ClientQuota(text, retry_after_seconds=max(RETRY_SECONDS, seconds))

    def _forget(self, video_id: VideoId, client: ClientId) -> None:
        del self._asking[video_id]
        self._of_client -= Counter((client,))

    async def _ask(self, video_id: VideoId, client: ClientId) -> Result:
        """Return the description or the failure, and keep it for some time.

        It never raises ConversionError: several requests may wait for the result, and each turns it into its own error.
        The breaker and the identity get the outcome like that of a conversion. Otherwise a client that only probes
        could go on asking a YouTube that refuses, which prolongs the block.
        """
        grant = await self._upstream.identities.take(video_id)
        if grant is None:
            return self._blocked()
        start = self._upstream.started()
        grant.begin()
        try:
            result: Result = await self._described(video_id, client, grant)
            self._upstream.passed(start, video_id)
            grant.served(video_id)
        except ConversionError as error:
            result = error
            await self._record(start, grant, video_id, error)
        finally:
            self._upstream.ended(start)
            grant.ended()
        self._keep(video_id, result)
        return result

    async def _described(self, video_id: VideoId, client: ClientId, grant: Grant) -> Description:
        """Ask YouTube in a child process, in a folder that is removed afterwards. Raises ConversionError."""
        self._folders += 1
        try:
            folder = await self._scratch.new_folder(f"probe-{video_id}-{self._folders}")
        except OSError as error:
            raise ConversionError(FailureCode.STORAGE_FULL, f"{error.strerror}") from error
        try:
            return await self._converter.describe(video_id, client, folder, grant)
        finally:
            await self._scratch.remove(folder)

    async def _record(self, start: int, grant: Grant, video_id: VideoId, error: ConversionError) -> None:
        """Record a failure like that of a conversion."""
        log.info("probe failed", extra={"video_id": video_id, "code": error.code, "reason": error.reason})
        fault = error.failure.fault
        if isinstance(error, NoProcess):
            self._upstream.pause()
        if fault is Fault.VIDEO:
            self._upstream.passed(start, video_id)
            grant.served(video_id)
        elif grant.is_at_fault(fault):
            await grant.failed(video_id, fault)
        else:
            self._upstream.failed(start, video_id, fault)

    def _blocked(self) -> UpstreamBlocked:
        """Return the error for a probe that YouTube would refuse, with the time until a conversion may start again."""
        upstream = self._upstream
        seconds = max(RETRY_SECONDS, upstream.blocked_seconds(), math.ceil(upstream.identities.start_seconds(1)))
        text = "No probe can start now: YouTube refuses this service, or the hourly budget of videos is used up."
        return UpstreamBlocked(text, retry_after_seconds=seconds)

    def _keep(self, video_id: VideoId, result: Result) -> None:
        """Keep a result, unless asking again soon may give another one.

        A new result moves to the end, and the entries at the beginning are dropped first: these are the oldest ones.
        """
        if isinstance(result, ConversionError) and result.failure.retryable:
            return
        seconds = KEPT_FAILURE_SECONDS if isinstance(result, ConversionError) else KEPT_SECONDS
        self._kept[video_id] = _Kept(result=result, until=self._clock() + seconds)
        self._kept.move_to_end(video_id)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def _told(self, result: Result, outcome: ProbeOutcome) -> Description:
        """Return a description, or raise the error that the client gets for a failure."""
        if isinstance(result, UpstreamBlocked):
            raise result
        if isinstance(result, Description):
            self._events.emit(events.ProbeAnswered(outcome=outcome, code=None))
            return result
        self._events.emit(events.ProbeAnswered(outcome=outcome, code=result.code))
        failure = result.failure
        if failure.retryable:
            raise ProbeFailed(failure.message, reason_code=result.code, retry_after_seconds=RETRY_SECONDS)
        raise ProbeRefused(failure.message, reason_code=result.code)
