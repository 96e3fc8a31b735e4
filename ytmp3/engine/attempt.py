"""One attempt at a conversion: claim, convert, publish, and record how it ended.

Two rules. The end is written to the job store before anything else happens, and while the store does not answer the
worker waits. And nothing is published unless the store has just confirmed the lease: an instance that was suspended or
cut off for longer than its lease must not put a file in place next to its successor's.

    claim ──> convert ──> confirm the lease ──> publish the file ──> finish     (done)
                │                │                    │                │
                │                └────── lease lost ──┴────────────────┴──────> delete the published file
                ├── error that another attempt may cure ──────────────────────> retry, due later
                ├── YouTube refuses the address ──────────────────────────────> back to the queue, at no cost
                ├── any other error, or no attempt left ──────────────────────> fail
                ├── stopped by a drain ───────────────────────────────────────> release
                └── stopped by a cancellation, or a lost lease ───────────────> nothing: the store knows already

A retry is a state with a time in the store, never a sleep in a worker: the janitor of any instance adopts it when due.

What a crash of this process leaves, and who mends it:

    before the claim           a queued conversion; it is adopted when its lease has run out, at no cost
    while converting           a scratch folder, which any instance's janitor removes; the conversion is adopted, and a
                               crash is counted against it
    between publish and finish a file without a record, which the janitor removes after an hour; the conversion is
                               repeated under another token, and so under another file name
    after finish               a scratch folder; the conversion is done
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from ytmp3.converter import Converted, Converter
from ytmp3.core.errors import FAILURES, ConversionError, FailureCode, Fault, LeaseLost, NoProcess
from ytmp3.core.job import Conversion, Report, Stage, Track, track_file_name
from ytmp3.core.states import should_retry
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.runs import Run, Runs, Stop
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.upstream import Upstream
from ytmp3.engine.writes import Writes
from ytmp3.storage.files import Files

log = logging.getLogger(__name__)

PUBLISHING_PROGRESS: Final = 0.99
"""The progress while the file is put in place; only a conversion that is done has 1.0."""


class Attempts:
    """Makes attempts at conversions. It has no state of its own: all is in the runs, the store and the files."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        converter: Converter,
        files: Files,
        writes: Writes,
        runs: Runs,
        upstream: Upstream,
        events: Events,
    ) -> None:
        self._max_retries = settings.max_retries
        self._converter = converter
        self._shelf = files.shelf
        self._scratch = files.scratch
        self._writes = writes
        self._runs = runs
        self._upstream = upstream
        self._events = events

    async def make(self, conversion: Conversion) -> None:
        """Claim a conversion that was taken from the queue, and carry it to the end of an attempt.

        A worker calls this and has nothing left to do for the conversion when it returns. Where it is cancelled, the
        scratch folder is gone, but the conversion stays claimed: `Workers.close` releases it.
        """
        start = self._upstream.started()
        with self._runs.busy():
            try:
                await self._make(conversion, start)
            finally:
                self._upstream.ended(start)

    async def _make(self, conversion: Conversion, start: int) -> None:
        # From here on the conversion is in no queue. It must not be forgotten on any way out: it is recorded as ended,
        # queued again in the store, or released; in the worst case its lease runs out.
        with self._runs.claiming(conversion):
            claimed = await self._writes.claim(conversion, goes_on=self._runs.may_claim.is_set)
        if claimed is None:
            return
        if not self._runs.may_claim.is_set():
            # The drain began while the store answered.
            await self._writes.release([claimed.lease])
        elif self._writes.is_stale(claimed):
            await self._give_up(claimed)
        else:
            with self._runs.running(claimed, start) as run:
                await self._run(run)

    async def _give_up(self, claimed: Conversion) -> None:
        """End a conversion for which no client is likely to wait any more, before work is spent on it."""
        error = ConversionError(FailureCode.EXPIRED_WAITING, "waited too long for its first attempt")
        try:
            await self._writes.fail(claimed, error, seconds=None)
        except LeaseLost:
            log.info("lease lost before the first attempt", extra={"conversion_key": claimed.key})

    async def _run(self, run: Run) -> None:
        """Convert and publish. Every way in which that can end is one branch here.

        When it returns or raises, the scratch folder is gone, and the converter's task has ended or is being cancelled.
        """
        conversion = run.conversion
        scratch: Path | None = None
        try:
            scratch = await self._scratch.new_folder(f"{conversion.conversion_id}-{conversion.token}")
            converted = await self._convert(run, scratch)
            await self._publish(run, converted)
        except ConversionError as error:
            await self._end_failed(run, error)
        except LeaseLost:
            self._end_lost(run)
        except asyncio.CancelledError:
            # Either the converter's task was stopped (`Run.stop`), or this worker is ended (`Workers.close`).
            if run.task is not None:
                run.task.cancel()
                await asyncio.gather(run.task, return_exceptions=True)
            worker = asyncio.current_task()
            if worker is not None and worker.cancelling():
                # The worker itself is ended. Checked first, although the run may have been stopped before as well: a
                # worker that swallowed its cancellation would leave `Workers.close` waiting for ever.
                raise
            await self._end_stopped(run)
        except OSError as error:
            # The disk is full or failing. Another attempt, perhaps at another instance, may succeed.
            await self._end_failed(run, ConversionError(FailureCode.LOST, f"storage: {error.strerror}"))
        except Exception as error:
            # A bug, ours or a tool's. It costs the conversion an attempt; if the lease ran out instead, the conversion
            # would be repeated up to the crash limit and then be reported as the cause of crashes.
            log.exception("attempt failed unexpectedly")
            await self._end_failed(run, ConversionError(FailureCode.LOST, type(error).__name__))
        finally:
            if scratch is not None:
                await self._remove_scratch(scratch)

    async def _convert(self, run: Run, scratch: Path) -> Converted:
        """Run the converter as a task of its own, so that it can be stopped without ending the worker.

        `run.task` is set only while the converter runs: a stop that comes later, while the file is being published,
        must not interrupt that. It shows itself by the store's refusal of the next write.
        """
        conversion = run.conversion
        run.task = asyncio.create_task(
            self._converter.convert(conversion.video_id, conversion.recipe, scratch, run.on_progress),
            name=f"convert-{conversion.conversion_id}",
        )
        if run.stop_reason is not None:
            # Stopped while the scratch folder was made.
            run.task.cancel()
        converted = await run.task
        self._upstream.passed(run.start)
        run.task = None
        return converted

    async def _publish(self, run: Run, converted: Converted) -> None:
        """Confirm the lease, put the file in place, record it.

        Raises:
            LeaseLost: nothing is left in place.
            OSError: nothing is in place.
        """
        run.on_progress(Report(stage=Stage.PUBLISHING, progress=PUBLISHING_PROGRESS, metadata=converted.metadata))
        await self._writes.confirm(run)
        file_name = track_file_name(run.conversion.lease, run.conversion.recipe)
        started_seconds = run.seconds
        # From here on a file is in place. Only `finish` makes it a track: until then no record names it.
        published_at = await self._shelf.publish(converted.path, file_name)
        track = Track(
            file_name=file_name,
            size_bytes=converted.size_bytes,
            duration_seconds=converted.duration_seconds,
            sha256=converted.sha256,
            published_at=published_at,
        )
        try:
            done = await self._writes.finish(run.conversion.lease, track, converted.metadata)
        except LeaseLost:
            await self._shelf.delete(file_name)
            raise
        # The converter has counted verifying and tagging as publishing already.
        stage_seconds = dict(converted.stage_seconds)
        stage_seconds[Stage.PUBLISHING] = stage_seconds.get(Stage.PUBLISHING, 0.0) + run.seconds - started_seconds
        self._events.emit(events.Finished(conversion=done, seconds=run.seconds, stage_seconds=stage_seconds))

    async def _end_failed(self, run: Run, error: ConversionError) -> None:
        """Record a failed attempt: to be retried, to wait for YouTube, or the end of the conversion.

        The breaker learns first, because this refusal may be the one that opens it; then the conversion waits with the
        others instead of losing an attempt. A retryable error tells the breaker nothing: it may have happened before
        YouTube was reached.
        """
        conversion, failure = run.conversion, FAILURES[error.code]
        if isinstance(error, NoProcess):
            self._upstream.pause()
        if failure.fault is Fault.ADDRESS:
            self._upstream.refused(run.start)
        elif not failure.retryable:
            # YouTube has answered for this video, so the address is not refused.
            self._upstream.passed(run.start)
        try:
            if failure.fault is Fault.ADDRESS and self._upstream.is_blocked:
                await self._wait_for_upstream(run, error)
            elif should_retry(error.code, conversion.attempts, self._max_retries):
                await self._writes.retry(conversion, error.code, error.reason)
            else:
                await self._writes.fail(conversion, error, seconds=run.seconds)
        except LeaseLost:
            self._end_lost(run)

    async def _wait_for_upstream(self, run: Run, error: ConversionError) -> None:
        """Queue the conversion again at no cost: the address is refused, not this video."""
        await self._writes.put_back(run.conversion)
        self._events.emit(
            events.Refused(conversion=run.conversion, code=error.code, blocked_seconds=self._upstream.blocked_seconds())
        )

    async def _end_stopped(self, run: Run) -> None:
        """Record the end of an attempt whose converter was cancelled.

        Without a stop reason the converter has cancelled itself, which is a bug of the converter.
        """
        match run.stop_reason:
            case Stop.DRAIN:
                await self._writes.release([run.conversion.lease])
                self._events.emit(events.Released(conversion=run.conversion))
            case None:
                await self._end_failed(run, ConversionError(FailureCode.LOST, "the converter cancelled itself"))
            case _:
                self._end_lost(run)

    def _end_lost(self, run: Run) -> None:
        """Emit why the lease is gone. The store knows already, so nothing is written."""
        if run.stop_reason is Stop.CANCELLED:
            self._events.emit(events.Cancelled(conversion=run.conversion))
        else:
            self._events.emit(events.LeaseLost(conversion=run.conversion))

    async def _remove_scratch(self, scratch: Path) -> None:
        """Remove an attempt's folder, also if the worker is cancelled meanwhile.

        Otherwise the folder, which may hold gigabytes, would stay for as long as this instance runs.
        """
        removal = asyncio.create_task(self._scratch.remove(scratch), name="remove-scratch")
        try:
            await asyncio.shield(removal)
        except asyncio.CancelledError:
            await removal
            raise
