"""Twenty workers carry conversions from queued to their end, under a lease that one keeper renews.

The rule: an ending is written to the job store before anything else is done, and nothing is published unless the store
has just confirmed the lease. A retry is a state with a time, never a sleep in a worker: it goes back to the store, and
the janitor of any instance brings it in again when it is due.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from ytmp3 import logs
from ytmp3.converter import Converted, Converter
from ytmp3.core.breaker import Breaker
from ytmp3.core.errors import FAILURES, ConversionError, FailureCode, LeaseLost, NoProcess, StoreError
from ytmp3.core.estimates import Pace
from ytmp3.core.ids import ClientId, ConversionId
from ytmp3.core.job import Conversion, Lease, Report, Stage, Track, track_file_name
from ytmp3.core.states import is_stale, retry_delay_seconds, should_retry
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.settings import LEASE_RENEWALS, EngineSettings
from ytmp3.jobstore import JobStore, Renewal
from ytmp3.metrics import Metrics
from ytmp3.storage import Storage

log = logging.getLogger(__name__)
T = TypeVar("T")


class Stop(StrEnum):
    """Why a running conversion is stopped from outside."""

    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    DRAIN = "drain"


class Run:
    """A conversion in the hands of a worker."""

    def __init__(self, conversion: Conversion, start: int, started_at: float) -> None:
        self.conversion = conversion
        self.start = start
        """Its number at the breaker."""
        self.started_at = started_at
        self.report = Report(stage=Stage.EXTRACTING, progress=0.0)
        self.is_news = False
        self.stop_reason: Stop | None = None
        self.task: asyncio.Task[Converted] | None = None

    def hear(self, report: Report) -> None:
        """Take a report from the converter."""
        metadata = report.metadata or self.report.metadata
        self.report = Report(stage=report.stage, progress=report.progress, metadata=metadata)
        self.is_news = True

    def stop(self, reason: Stop) -> None:
        """End the tools; the worker finds the reason."""
        if self.stop_reason is None:
            self.stop_reason = reason
        if self.task is not None:
            self.task.cancel()

    def renewal(self) -> Renewal:
        """The renewal of this run, with its news."""
        self.is_news = False
        report = self.report
        return Renewal(
            lease=self.conversion.lease, stage=report.stage, progress=report.progress, metadata=report.metadata
        )


class Pool:
    """The bounded queue, its workers and the keeper of their leases."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        store: JobStore,
        storage: Storage,
        converter: Converter,
        metrics: Metrics,
        chance: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.queue = FairQueue(settings.queue_capacity, self._running_of_clients)
        self.pace = Pace()
        self.breaker = Breaker()
        self._store = store
        self._storage = storage
        self._converter = converter
        self._metrics = metrics
        self._chance = chance
        self._clock = clock
        self._claiming: dict[str, Conversion] = {}
        self._runs: dict[str, Run] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._accepts = asyncio.Event()
        self._rests_until = -math.inf
        self._busy = 0
        """Workers with a conversion in hand: claiming, running or giving it back."""
        self._idle = asyncio.Event()
        self._idle.set()

    # --- what others ask -------------------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        return len(self._runs)

    def report(self, conversion_id: ConversionId) -> Report | None:
        """Return the live report of a conversion running here: fresher than the store's."""
        run = self._runs.get(conversion_id)
        return None if run is None else run.report

    def position(self, conversion_id: ConversionId) -> int | None:
        """Return the place in this instance's queue; 1 is next."""
        return self.queue.positions(self._clock()).get(conversion_id)

    def unfinished_of(self, client: ClientId) -> int:
        """Count the conversions that a client has waiting or running here."""
        return self.queue.clients()[client] + self._running_of_clients()[client]

    def _running_of_clients(self) -> Counter[str]:
        """Count the conversions of each client that are in a worker's hands."""
        taken = [*self._claiming.values(), *(run.conversion for run in self._runs.values())]
        return Counter(conversion.client for conversion in taken)

    def slot_wait_seconds(self) -> int:
        """Return the `Retry-After` of a full queue."""
        return self.pace.slot_wait_seconds(workers=self.settings.workers, now=self._clock(), chance=self._chance())

    def blocked_seconds(self) -> int:
        """Return for how long YouTube is not asked; 0 when it is."""
        now = self._clock()
        return max(1, math.ceil(self.breaker.wait_seconds(now))) if self.breaker.is_open(now) else 0

    def take_back(self, conversion_id: ConversionId) -> None:
        """The conversion was cancelled in the store: free its slot, or end its tools."""
        run = self._runs.get(conversion_id)
        if run is not None:
            run.stop(Stop.CANCELLED)
        elif self.queue.remove(conversion_id):
            self._metrics.conversions.labels("cancelled", "").inc()

    # --- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers and the keeper."""
        self._accepts.set()
        self._tasks = [
            asyncio.create_task(self._work(), name=f"worker-{number}") for number in range(self.settings.workers)
        ]
        self._tasks.append(asyncio.create_task(self._keep(), name="lease-keeper"))

    async def drain(self, seconds: float, force: asyncio.Event) -> None:
        """Claim nothing more, give back what waits, let the running end for `seconds`, then give them back too.

        `force`: set to give everything back at once.
        """
        self._accepts.clear()
        await self._release([conversion.lease for conversion in self.queue.take_all()])
        waits = {asyncio.create_task(event.wait(), name="drain-wait") for event in (self._idle, force)}
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        # What was being submitted when the drain began has come in by now.
        await self._release([conversion.lease for conversion in self.queue.take_all()])
        for run in list(self._runs.values()):
            run.stop(Stop.DRAIN)
        with contextlib.suppress(TimeoutError):
            # A tool is gone 5 s after TERM; then the release must reach the store.
            async with asyncio.timeout(8.0):
                await self._idle.wait()

    async def close(self) -> None:
        """End the workers, and give back what they still had, and what has come in since the drain."""
        leases = [run.conversion.lease for run in self._runs.values()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._release([*leases, *(conversion.lease for conversion in self.queue.take_all())])

    async def _release(self, leases: list[Lease]) -> None:
        try:
            if leases:
                await self._store.release(leases)
        except StoreError:
            log.warning("release failed: the leases will run out instead", extra={"conversions": len(leases)})

    # --- a worker --------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self._may_start()
            conversion = await self.queue.get()
            if not self._accepts.is_set():
                await self._release([conversion.lease])
                continue
            if self._must_wait():
                await self._put_back(conversion)
                continue
            context = logs.conversion_id.set(conversion.conversion_id)
            try:
                await self._carry(conversion)
            except Exception:
                # The outermost frame of a worker: a bug here must not cost the slot. The lease will run out.
                log.exception("worker failed")
            finally:
                logs.conversion_id.reset(context)

    async def _put_back(self, conversion: Conversion) -> None:
        try:
            self.queue.put_back(conversion)
        except asyncio.QueueFull:
            await self._release([conversion.lease])

    async def _may_start(self) -> None:
        """Return when work may be taken: not draining, and no reason to wait."""
        await self._accepts.wait()
        while self._must_wait():  # noqa: ASYNC110  the breaker opens by the clock, so there is no event to wait for
            await asyncio.sleep(self.settings.breaker_seconds)

    def _must_wait(self) -> bool:
        """Whether YouTube refuses this address, or the machine gave no process a moment ago."""
        now = self._clock()
        return now < self._rests_until or self.breaker.is_open(now)

    async def _carry(self, conversion: Conversion) -> None:
        start = self.breaker.started(self._clock())
        self._busy += 1
        self._idle.clear()
        try:
            claimed = await self._claim(conversion)
            if claimed is None:
                return
            if not self._accepts.is_set():
                await self._release([claimed.lease])
                return
            # By the store's clock, as the lease was given just now.
            claimed_at = claimed.due_at - self._store.policy.lease_seconds
            if is_stale(claimed, now=claimed_at, retention_seconds=self._store.policy.retention_seconds):
                await self._give_up(claimed)
                return
            run = self._runs[claimed.conversion_id] = Run(claimed, start, self._clock())
            try:
                await self._run(run)
            finally:
                del self._runs[claimed.conversion_id]
        finally:
            self.breaker.ended(start)
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def _give_up(self, claimed: Conversion) -> None:
        """End what has waited too long, before anything is done for it."""
        with contextlib.suppress(LeaseLost):
            await self._insist(lambda: self._store.fail(claimed.lease, FailureCode.LOST))
            self._metrics.conversions.labels("failed", FailureCode.LOST).inc()
            log.warning("conversion not begun: it has waited too long", extra={"conversion_key": claimed.key})

    async def _claim(self, conversion: Conversion) -> Conversion | None:
        self._claiming[conversion.conversion_id] = conversion
        try:
            return await self._insist_on_claim(conversion)
        finally:
            del self._claiming[conversion.conversion_id]

    async def _insist_on_claim(self, conversion: Conversion) -> Conversion | None:
        while True:
            try:
                return await self._store.claim(conversion.lease)
            except LeaseLost:
                log.info("not claimed: cancelled or taken over", extra={"conversion_key": conversion.key})
                return None
            except StoreError as error:
                self._metrics.store_errors.labels(type(error).__name__).inc()
                if not self._accepts.is_set():
                    # Draining: whether it was claimed is not known; its lease will run out.
                    return None
                await asyncio.sleep(self.settings.store_pause_seconds)

    async def _run(self, run: Run) -> None:
        conversion = run.conversion
        scratch: Path | None = None
        try:
            scratch = await self._storage.new_scratch(f"{conversion.conversion_id}-{conversion.token}")
            run.task = asyncio.create_task(
                self._converter.convert(conversion.video_id, conversion.recipe, scratch, run.hear),
                name=f"convert-{conversion.conversion_id}",
            )
            if run.stop_reason is not None:
                run.task.cancel()
            converted = await run.task
            self.breaker.passed(run.start, self._clock())
            run.task = None
            await self._publish(run, converted)
        except ConversionError as error:
            await self._settle_failure(run, error)
        except LeaseLost:
            self._lost(run)
        except asyncio.CancelledError:
            if run.task is not None:
                run.task.cancel()
                await asyncio.gather(run.task, return_exceptions=True)
            worker = asyncio.current_task()
            if worker is not None and worker.cancelling():
                # Also where the run was stopped before: a swallowed cancellation would leave `close` waiting.
                raise
            await self._settle_stop(run)
        except OSError as error:
            await self._settle_failure(run, ConversionError(FailureCode.LOST, f"storage: {error.strerror}"))
        except Exception as error:
            # A bug, ours or a tool's: it costs the conversion an attempt, not three leases and the name of poison.
            log.exception("conversion failed unexpectedly")
            await self._settle_failure(run, ConversionError(FailureCode.LOST, type(error).__name__))
        finally:
            if scratch is not None:
                await self._remove_scratch(scratch)

    async def _remove_scratch(self, scratch: Path) -> None:
        """Remove it, also if this worker is ended meanwhile: what is left would lie there until a sweep finds it."""
        removal = asyncio.create_task(self._storage.remove_scratch(scratch), name="remove-scratch")
        try:
            await asyncio.shield(removal)
        except asyncio.CancelledError:
            await removal
            raise

    async def _publish(self, run: Run, converted: Converted) -> None:
        """Confirm the lease, put the file in place, say so. A stale holder leaves nothing behind."""
        run.hear(Report(stage=Stage.PUBLISHING, progress=0.99, metadata=converted.metadata))
        await self._confirm(run)
        lease = run.conversion.lease
        file_name = track_file_name(lease, run.conversion.recipe)
        started_at = self._clock()
        published_at = await self._storage.publish(converted.path, file_name)
        track = Track(
            file_name=file_name,
            size_bytes=converted.size_bytes,
            duration_seconds=converted.duration_seconds,
            sha256=converted.sha256,
            published_at=published_at,
        )
        try:
            await self._insist(lambda: self._store.finish(lease, track, converted.metadata))
        except LeaseLost:
            await self._storage.delete(file_name)
            raise
        seconds = self._clock() - run.started_at
        self.pace.ended(seconds, self._clock())
        self._metrics.conversions.labels("done", "").inc()
        self._metrics.conversion_seconds.observe(seconds)
        for stage, stage_seconds in converted.stage_seconds.items():
            self._metrics.stage_seconds.labels(stage).observe(stage_seconds)
        self._metrics.stage_seconds.labels(Stage.PUBLISHING).observe(self._clock() - started_at)
        log.info("conversion done", extra={"seconds": round(seconds, 3), "size_bytes": track.size_bytes})

    async def _confirm(self, run: Run) -> None:
        """Return once the store has just extended this lease.

        Raises:
            LeaseLost
        """
        lost = await self._insist(lambda: self._store.renew([run.renewal()]))
        if lost:
            raise LeaseLost

    async def _settle_failure(self, run: Run, error: ConversionError) -> None:
        conversion, code = run.conversion, error.code
        now = self._clock()
        if isinstance(error, NoProcess):
            self._rests_until = now + self.settings.rest_seconds
        if FAILURES[code].upstream_block:
            self.breaker.refused(run.start, now)
            if self.breaker.is_open(now):
                await self._wait_for_breaker(run, error)
                return
        elif not FAILURES[code].retryable:
            # YouTube did answer for this video: the address is not refused.
            self.breaker.passed(run.start, now)
        will_retry = should_retry(code, conversion.attempts, self.settings.max_retries)
        delay_seconds = retry_delay_seconds(conversion.attempts, self._chance())
        try:
            if will_retry:
                await self._insist(lambda: self._store.retry(conversion.lease, code, delay_seconds=delay_seconds))
            else:
                await self._insist(lambda: self._store.fail(conversion.lease, code))
        except LeaseLost:
            self._lost(run)
            return
        extra = {"code": code, "reason": error.reason, "attempt": conversion.attempts + 1}
        if will_retry:
            self._metrics.retries.labels(code).inc()
            log.warning("retry scheduled", extra=extra | {"delay_seconds": round(delay_seconds, 1)})
        else:
            self._metrics.conversions.labels("failed", code).inc()
            self.pace.ended(now - run.started_at, now)
            log.warning("conversion failed", extra=extra)

    async def _wait_for_breaker(self, run: Run, error: ConversionError) -> None:
        """The address is refused, not this video: it waits with the others and has lost no attempt."""
        await self._insist(lambda: self._store.release([run.conversion.lease]))
        self._metrics.retries.labels(error.code).inc()
        log.warning("refused by YouTube, waits", extra={"code": error.code, "blocked_seconds": self.blocked_seconds()})

    async def _settle_stop(self, run: Run) -> None:
        match run.stop_reason:
            case Stop.DRAIN:
                await self._release([run.conversion.lease])
                log.info("conversion given back")
            case None:
                await self._settle_failure(run, ConversionError(FailureCode.LOST, "the converter cancelled itself"))
            case _:
                self._lost(run)

    def _lost(self, run: Run) -> None:
        if run.stop_reason is Stop.CANCELLED:
            self._metrics.conversions.labels("cancelled", "").inc()
            log.info("conversion cancelled")
            return
        self._metrics.leases_lost.inc()
        log.warning("lease lost: nothing was published", extra={"token": run.conversion.token})

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Repeat a write until the store takes it or says that the lease is gone.

        Raises:
            LeaseLost
        """
        while True:
            try:
                return await write()
            except LeaseLost:
                raise
            except StoreError as error:
                self._metrics.store_errors.labels(type(error).__name__).inc()
                log.warning("the store did not take a write, will repeat it", extra={"error": str(error)})
                await asyncio.sleep(self.settings.store_pause_seconds)

    # --- the keeper ------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Renew what runs and what waits; carry progress to the store."""
        renewed_at = self._clock()
        while True:
            await asyncio.sleep(self.settings.progress_seconds)
            now = self._clock()
            is_due = now - renewed_at >= self._store.policy.lease_seconds / LEASE_RENEWALS
            renewals = [run.renewal() for run in self._runs.values() if is_due or run.is_news]
            if is_due:
                renewals += self._waiting_renewals()
            try:
                if renewals and await self._renew(renewals) and is_due:
                    renewed_at = now
            except Exception:
                # The outermost frame of the keeper: without it every lease would run out.
                log.exception("leases not renewed")

    def _waiting_renewals(self) -> list[Renewal]:
        return [
            Renewal(lease=conversion.lease, queue_position=place)
            for place, conversion in enumerate(self.queue.in_order(), start=1)
        ]

    async def _renew(self, renewals: list[Renewal]) -> bool:
        try:
            lost = await self._store.renew(renewals)
        except StoreError as error:
            self._metrics.store_errors.labels(type(error).__name__).inc()
            log.warning("leases not renewed", extra={"conversions": len(renewals), "error": str(error)})
            return False
        for lease in (renewal.lease for renewal in renewals):
            if lease.conversion_id in lost:
                self._let_go(lease)
        return True

    def _let_go(self, lease: Lease) -> None:
        """Drop what is held no more under this very token: while the store answered, a worker may have claimed it."""
        run = self._runs.get(lease.conversion_id)
        if run is not None and run.conversion.token == lease.token:
            run.stop(Stop.LEASE_LOST)
        elif run is None:
            self.queue.remove(lease.conversion_id, token=lease.token)
