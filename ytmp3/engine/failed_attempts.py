"""Records failed attempts: who is at fault, whether the attempt counts, and whether there is another one.

The rule: an attempt is not counted if this instance's own disk or tools are at fault, or while the instance drains. So
an instance that has just become faulty costs no job one of its attempts: before a failure is recorded that may have
this cause, the disk or the tools are checked.
"""

import logging

from ytmp3.core.errors import ConversionError, FailureCode, Fault, NoProcess
from ytmp3.core.states import costs_an_attempt, should_retry
from ytmp3.engine.checks import Checks
from ytmp3.engine.health import Health
from ytmp3.engine.runs import Run
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.upstream import Upstream
from ytmp3.engine.writes import Writes

log = logging.getLogger(__name__)


class FailedAttempts:
    """Decides what follows a failed attempt, and writes it to the store."""

    def __init__(
        self, settings: EngineSettings, *, writes: Writes, upstream: Upstream, checks: Checks, health: Health
    ) -> None:
        self._max_retries = settings.max_retries
        self._writes = writes
        self._upstream = upstream
        self._checks = checks
        self._health = health

    def begun(self, run: Run) -> None:
        """Record that an attempt begins: if the disk fails from now on, that is taken for the cause of its failure."""
        run.storage_faults = self._health.storage_faults

    async def record(self, run: Run, error: ConversionError) -> None:
        """Requeue the conversion with or without counting the attempt, or fail it.

        Raises:
            LeaseLost
        """
        if error.failure.fault is not Fault.VIDEO:
            await self._checks.after_failure(error.code)
            if self._health.is_draining:
                # The reported cause may be wrong: a service manager often sends its signal to the tools as well.
                await self._writes.postpone(run.conversion, error, at_once=True)
                return
            if self._health.storage_faults != run.storage_faults:
                # The tools may have reported another cause, such as a download that stopped.
                error = ConversionError(FailureCode.STORAGE_FULL, f"the disk failed during the attempt: {error}")
            if self._health.fault is not None:
                # Nothing starts here before the fault is gone, but another instance may adopt the conversion at once.
                await self._writes.postpone(run.conversion, error, at_once=True)
                return
        await self._record(run, error)

    async def _record(self, run: Run, error: ConversionError) -> None:
        """Record a failure that is not this instance's fault.

        The breaker is updated first, because this failure may open it. In that case the conversion is requeued without
        counting the attempt.
        """
        conversion, failure = run.conversion, error.failure
        if isinstance(error, NoProcess):
            self._upstream.pause()
        if failure.fault is Fault.VIDEO:
            # YouTube has replied for this video, so neither YouTube nor the network is at fault.
            self._upstream.passed(run.start, conversion.video_id)
            run.grant.served(conversion.video_id)
        elif run.grant.is_at_fault(failure.fault):
            await self._record_of_identity(run, error)
            return
        else:
            self._upstream.failed(run.start, conversion.video_id, failure.fault)
        is_paused = self._upstream.is_blocked
        waited_seconds = self._writes.waited_seconds(conversion)
        is_counted = costs_an_attempt(
            failure.fault, is_paused=is_paused, waited_seconds=waited_seconds
        ) and not self._upstream.takes_refund(conversion.video_id)
        if failure.retryable and not is_counted:
            await self._writes.postpone(conversion, error, at_once=is_paused)
        elif should_retry(error.code, conversion.attempts, self._max_retries):
            await self._writes.retry(conversion, error)
        else:
            await self._writes.fail(conversion, error, seconds=run.seconds)

    async def _record_of_identity(self, run: Run, error: ConversionError) -> None:
        """Record a failure that is the identity's fault, or seems to be: a retry may succeed through another one.

        The retry is due at once if there are others. It is due at once, too, if all are closed: nothing starts here
        then, but another instance may have other identities.
        """
        conversion = run.conversion
        costs_an_attempt = await run.grant.failed(conversion.video_id, error.failure.fault)
        if not costs_an_attempt:
            at_once = self._upstream.identities.has_others or self._upstream.is_blocked
            await self._writes.postpone(conversion, error, at_once=at_once)
        elif should_retry(error.code, conversion.attempts, self._max_retries):
            await self._writes.retry(conversion, error)
        else:
            self._upstream.identities.forget(conversion.video_id)
            await self._writes.fail(conversion, error, seconds=run.seconds)
