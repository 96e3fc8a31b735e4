"""One attempt at a conversion: claim, convert, publish, and record how it ended.

Two rules. First, the end of an attempt is written to the job store before anything else happens; while the store is
down, the worker waits. Second, a file is published only right after the store has confirmed the lease: an instance that
was suspended or disconnected for longer than its lease must not publish a file next to its successor's.

    claim ──> convert ──> confirm the lease ──> publish the file ──> finish     (done)
                │                │                    │                │
                │                └────── lease lost ──┴────────────────┴──────> delete the published file
                ├── retryable error ──────────────────────────────────────────> retry, due later
                ├── error that affects every video ───────────────────────────> postpone; no attempt is counted
                ├── any other error, or no attempt left ──────────────────────> fail
                ├── stopped by a drain ───────────────────────────────────────> release
                └── stopped by a cancellation, or a lost lease ───────────────> nothing: it is recorded already

A retry is a stored state with a time (`due_at`), never a sleep in a worker. When it is due, the janitor of any instance
adopts it.

State after a crash of this process, and how it is repaired:

    before the claim           a queued conversion. When its lease has run out, an instance adopts it; nothing is
                               counted
    while converting           a running conversion, and a scratch folder, which the janitor of any instance removes.
                               An instance adopts the conversion, and a crash is counted
    between publish and finish as before, and a track file without a record, which the janitor removes after an hour.
                               The next attempt has another token, and so another file name
    after finish               a scratch folder; the conversion is done
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from ytmp3.converter import Converted, Converter, Observer
from ytmp3.core.errors import ConversionError, FailureCode, LeaseLost
from ytmp3.core.file_names import content_disposition
from ytmp3.core.job import Conversion, Report, Stage, Track, track_file_name
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.failed_attempts import FailedAttempts
from ytmp3.engine.grants import Grant
from ytmp3.engine.runs import Run, Runs, Stop
from ytmp3.engine.upstream import Upstream
from ytmp3.engine.writes import Writes
from ytmp3.storage import Description
from ytmp3.storage.files import Files

log = logging.getLogger(__name__)

PUBLISHING_PROGRESS: Final = 0.99
"""The progress while the file is being published. Only a conversion that is done has 1.0."""

REMOVAL_SECONDS: Final = 5.0
"""Longest wait, in seconds, for the removal of a scratch folder. It takes milliseconds on a disk that answers, and
goes on in its thread on one that does not."""


class Attempts:
    """Makes attempts at conversions. All state is in the runs, the store and the files; this class has none."""

    def __init__(
        self,
        *,
        converter: Converter,
        files: Files,
        writes: Writes,
        runs: Runs,
        upstream: Upstream,
        failed: FailedAttempts,
        events: Events,
    ) -> None:
        self._converter = converter
        self._shelf = files.shelf
        self._scratch = files.scratch
        self._writes = writes
        self._runs = runs
        self._upstream = upstream
        self._failed = failed
        self._events = events

    async def make(self, conversion: Conversion, grant: Grant) -> None:
        """Claim a conversion that was taken from the queue, and make one attempt at it.

        When this returns, the worker has nothing left to do for the conversion. If the worker's task is cancelled, the
        scratch folder is removed, but the conversion stays claimed: `Workers.close` releases it.
        """
        start = self._upstream.started()
        with self._runs.busy():
            try:
                await self._make(conversion, start, grant)
            finally:
                grant.ended()
                self._upstream.ended(start)

    async def _make(self, conversion: Conversion, start: int, grant: Grant) -> None:
        """Claim and run the conversion. `start` is the upstream's permission to ask YouTube, `grant` an identity's.

        The claim is refused if another instance has adopted the conversion meanwhile. Then there is nothing to do: this
        attempt has written nothing, and costs the conversion nothing.
        """
        if self._runs.holds(conversion.conversion_id):
            await self._yield_to_earlier(conversion)
            return
        # The conversion is in no queue now, so every path out of this method must record its end, requeue it or release
        # it. If none of these succeeds, its lease runs out.
        with self._runs.claiming(conversion):
            claimed = await self._writes.claim(conversion, goes_on=self._runs.may_claim.is_set)
        if claimed is None:
            return
        if not self._runs.may_claim.is_set():
            # The drain began during the call to the store.
            await self._writes.release([claimed.lease])
        elif self._writes.is_stale(claimed):
            await self._writes.fail_stale(claimed)
        else:
            with self._runs.running(claimed, start, grant) as run:
                await self._run(run)

    async def _yield_to_earlier(self, conversion: Conversion) -> None:
        """Release a conversion, because an earlier attempt of this instance has not ended.

        The earlier attempt has lost its lease, and the lease keeper stops it with its next renewal. Two attempts of one
        instance must not run side by side: after the store went back in time, they may have the same lease, and so the
        same file name. The janitor adopts the conversion again every second until the earlier attempt has ended.
        """
        await self._writes.release([conversion.lease])

    async def _run(self, run: Run) -> None:
        """Convert and publish. Each possible end of an attempt is one branch here.

        When this returns or raises, the scratch folder is removed, and the converter's task has ended or is being
        cancelled.
        """
        conversion = run.conversion
        scratch: Path | None = None
        self._failed.begun(run)
        run.grant.begin()
        try:
            scratch = await self._scratch.new_folder(f"{conversion.conversion_id}-{conversion.token}")
            converted = await self._convert(run, scratch)
            await self._publish(run, converted)
        except ConversionError as error:
            await self._end_failed(run, error)
        except LeaseLost:
            self._end_lost(run)
        except asyncio.CancelledError:
            # Either `Run.stop` cancelled the converter's task, or `Workers.close` cancelled this worker.
            if run.task is not None:
                run.task.cancel()
                await asyncio.gather(run.task, return_exceptions=True)
            worker = asyncio.current_task()
            if worker is not None and worker.cancelling():
                # The worker was cancelled. This is checked first, because the run may have been stopped as well: if the
                # worker swallowed its cancellation, `Workers.close` would wait forever.
                raise
            await self._end_stopped(run)
        except TimeoutError as error:
            # An OSError to Python, but not one of the disk.
            await self._end_unexpectedly(run, error)
        except OSError as error:
            # The disk is full or failing. Another attempt, perhaps at another instance, may succeed.
            await self._end_failed(run, ConversionError(FailureCode.STORAGE_FULL, f"{error.strerror}"))
        except Exception as error:  # noqa: BLE001  the outermost frame of an attempt, which logs and records it
            await self._end_unexpectedly(run, error)
        finally:
            if scratch is not None:
                await self._remove_scratch(scratch)

    async def _convert(self, run: Run, scratch: Path) -> Converted:
        """Run the converter in its own task, so that it can be stopped without ending the worker.

        `run.task` is set only while the converter runs, because a later stop must not interrupt the publishing. In that
        case the store refuses the next write.
        """
        conversion = run.conversion

        def on_progress(report: Report) -> None:
            if report.metadata is not None:
                self._upstream.reached(run.start)
                run.grant.reached()
            run.on_progress(report)

        observer = Observer(on_progress, run.sound)
        run.task = asyncio.create_task(
            self._converter.convert(
                conversion.video_id, conversion.recipe, conversion.client, scratch, observer, run.grant
            ),
            name=f"convert-{conversion.conversion_id}",
        )
        if run.stop_reason is not None:
            # The run was stopped while the scratch folder was being created.
            run.task.cancel()
        converted = await run.task
        self._upstream.passed(run.start, conversion.video_id)
        run.grant.served(conversion.video_id)
        run.task = None
        return converted

    async def _publish(self, run: Run, converted: Converted) -> None:
        """Confirm the lease, publish the file, record the track.

        Raises:
            LeaseLost: no file is left on the shelf.
            OSError: no file is on the shelf, or one that no record names.
        """
        run.on_progress(Report(stage=Stage.PUBLISHING, progress=PUBLISHING_PROGRESS, metadata=converted.metadata))
        await self._writes.confirm(run)
        recipe = run.conversion.recipe
        file_name = track_file_name(run.conversion.lease, recipe)
        description = Description(
            content_type=recipe.media_type,
            content_disposition=content_disposition(
                converted.metadata.title, run.conversion.video_id, recipe.extension
            ),
            sha256=converted.sha256,
        )
        started_seconds = run.seconds
        # Until `finish` has recorded the track, no record names the published file.
        published_at = await self._shelf.publish(converted.path, file_name, description)
        track = Track(
            file_name=file_name,
            size_bytes=converted.size_bytes,
            duration_seconds=converted.duration_seconds,
            sha256=converted.sha256,
            crc32=converted.crc32,
            loudness_lufs=converted.loudness_lufs,
            published_at=published_at,
        )
        try:
            done = await self._writes.finish(run.conversion.lease, track, converted.metadata)
            run.sound.confirm()
        except LeaseLost:
            await self._shelf.delete(file_name)
            raise
        # The converter has measured verifying and tagging as `publishing`; the time of this method is added to it.
        stage_seconds = dict(converted.stage_seconds)
        stage_seconds[Stage.PUBLISHING] = stage_seconds.get(Stage.PUBLISHING, 0.0) + run.seconds - started_seconds
        self._events.emit(events.Finished(conversion=done, seconds=run.seconds, stage_seconds=stage_seconds))

    async def _end_failed(self, run: Run, error: ConversionError) -> None:
        """Record a failed attempt, as a retry or as the conversion's end. With a lost lease, nothing is recorded."""
        try:
            await self._failed.record(run, error)
        except LeaseLost:
            self._end_lost(run)

    async def _end_unexpectedly(self, run: Run, error: Exception) -> None:
        """Record a bug, in this service or in a tool. It counts as an attempt.

        If the lease ran out instead, the conversion would be repeated up to the crash limit, and then be reported as
        the cause of crashes.
        """
        log.error("attempt failed unexpectedly", exc_info=error)
        await self._end_failed(run, ConversionError(FailureCode.LOST, type(error).__name__))

    async def _end_stopped(self, run: Run) -> None:
        """Record the end of an attempt whose converter was cancelled.

        If there is no stop reason, the converter has cancelled itself, which is a bug of the converter.
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
        """Emit why the lease is lost. The change is recorded already, so nothing is written to the store."""
        if run.stop_reason is Stop.CANCELLED:
            self._events.emit(events.Cancelled(conversion=run.conversion))
        else:
            self._events.emit(events.LeaseLost(conversion=run.conversion))

    async def _remove_scratch(self, scratch: Path) -> None:
        """Remove an attempt's folder, even if the worker is cancelled during the removal.

        Otherwise the folder, which may hold gigabytes, would stay until this instance ends. The wait is bounded: a disk
        that hangs must keep neither a worker nor the end of this process.
        """
        removal = asyncio.create_task(self._scratch.remove(scratch), name="remove-scratch")
        try:
            await asyncio.wait([removal], timeout=REMOVAL_SECONDS)
        except asyncio.CancelledError:
            await asyncio.wait([removal], timeout=REMOVAL_SECONDS)
            raise
