"""The workers' writes to the job store. Each is retried until it is stored, and then emitted as an event.

The rule: an attempt has ended only when the store has confirmed it. While the store is down, the worker keeps retrying
and takes no other conversion. If the lease runs out meanwhile, the store refuses the write with LeaseLost, because
another instance may hold the conversion already.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ytmp3.core.errors import ConversionError, LeaseLost, StoreError
from ytmp3.core.job import Conversion, Lease, Metadata, Track
from ytmp3.core.states import (
    SHORTEST_FREE_DELAY_SECONDS,
    asked_at,
    code_of_stale,
    free_delay_seconds,
    is_stale,
    retention_of,
    retry_delay_seconds,
)
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.runs import Run
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore import JobStore

log = logging.getLogger(__name__)
T = TypeVar("T")


class Writes:
    """The writes of lease holders. All except `claim` and `release` raise LeaseLost if the lease is no longer valid."""

    def __init__(
        self, settings: EngineSettings, *, store: JobStore, events: Events, random: Callable[[], float]
    ) -> None:
        self._store = store
        self._events = events
        self._random = random
        self._pause_seconds = settings.store_pause_seconds

    async def claim(self, conversion: Conversion, *, goes_on: Callable[[], bool]) -> Conversion | None:
        """Claim a queued conversion. Returns None if it must not be started here, for one of these reasons.

        The conversion was cancelled, or another instance has taken it over. Or the store is down and this instance
        stops (`goes_on` returns False). In that case the claim may have taken effect; then the lease runs out, and
        another instance adopts the conversion.
        """
        while True:
            try:
                return await self._store.claim(conversion.lease)
            except LeaseLost:
                log.info("not claimed: cancelled or taken over", extra={"conversion_key": conversion.key})
                return None
            except StoreError as error:
                self._events.emit(events.StoreFailed(operation="claim", error=error))
                if not goes_on():
                    return None
                await asyncio.sleep(self._pause_seconds)

    def is_stale(self, claimed: Conversion) -> bool:
        """Return whether a conversion had waited for longer than its lifetime when it was claimed just now."""
        return is_stale(claimed, now=self._claimed_at(claimed), retention_seconds=self._store.policy.retention_seconds)

    async def fail_stale(self, claimed: Conversion) -> bool:
        """Fail a stale conversion without an attempt. Returns False if the lease was lost."""
        error = ConversionError(code_of_stale(claimed), "waited longer than its lifetime for a successful attempt")
        try:
            await self.fail(claimed, error, seconds=None)
        except LeaseLost:
            log.info("lease lost before the attempt", extra={"conversion_key": claimed.key})
            return False
        return True

    async def confirm(self, run: Run) -> None:
        """Renew the lease of a run, retrying until the store has confirmed it.

        Raises:
            LeaseLost
        """
        if await self._until_stored("renew", lambda: self._store.renew([run.renewal()])):
            raise LeaseLost

    async def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        """Record the published track, and return the finished conversion. The caller emits the event `Finished`.

        Raises:
            LeaseLost: the caller must delete the published file.
        """
        return await self._until_stored("finish", lambda: self._store.finish(lease, track, metadata))

    async def fail(self, conversion: Conversion, error: ConversionError, *, seconds: float | None) -> None:
        """Record that the conversion has failed, for all of its jobs.

        `seconds` is the time since the claim; None if no attempt was made.

        Raises:
            LeaseLost
        """
        await self._until_stored("fail", lambda: self._store.fail(conversion.lease, error.code))
        self._events.emit(
            events.Failed(
                conversion=conversion,
                code=error.code,
                reason=error.reason,
                seconds=seconds,
                stage_seconds=error.stage_seconds,
            ),
        )

    async def retry(self, conversion: Conversion, error: ConversionError) -> None:
        """Queue the conversion again, without a holder and due after a random delay. The attempt counts.

        Raises:
            LeaseLost
        """
        delay_seconds = retry_delay_seconds(error.code, conversion.attempts, self._random())
        await self._until_stored(
            "retry", lambda: self._store.retry(conversion.lease, error.code, delay_seconds=delay_seconds)
        )
        self._events.emit(
            events.Retried(
                conversion=conversion,
                code=error.code,
                reason=error.reason,
                delay_seconds=delay_seconds,
                stage_seconds=error.stage_seconds,
            )
        )

    def waited_seconds(self, conversion: Conversion) -> float:
        """Return how long before its claim a claimed conversion was created, in seconds of the store's clock."""
        return self._claimed_at(conversion) - conversion.created_at

    async def postpone(self, conversion: Conversion, error: ConversionError, *, at_once: bool) -> None:
        """Queue the conversion again, without a holder. The attempt does not count.

        `at_once` is for a time in which nothing starts in this instance. Then the conversion is due at once, because
        another instance may have another IP address, a working network or a working disk. Otherwise it is due after a
        delay, so that the attempt is not repeated in a tight loop.

        Raises:
            LeaseLost
        """
        delay_seconds = 0.0
        if not at_once:
            now = self._claimed_at(conversion)
            delay_seconds = free_delay_seconds(self.waited_seconds(conversion), self._random())
            # When its retention is over, it must be due, so that a worker claims it and fails it as stale.
            retention_seconds = retention_of(conversion, self._store.policy.retention_seconds)
            lifetime_seconds = asked_at(conversion) + retention_seconds - now
            delay_seconds = min(delay_seconds, max(SHORTEST_FREE_DELAY_SECONDS, lifetime_seconds))
        lease, code = conversion.lease, error.code
        await self._until_stored(
            "retry", lambda: self._store.retry(lease, code, delay_seconds=delay_seconds, costs_attempt=False)
        )
        self._events.emit(
            events.Postponed(
                conversion=conversion,
                code=code,
                reason=error.reason,
                delay_seconds=delay_seconds,
                stage_seconds=error.stage_seconds,
            )
        )

    async def release(self, leases: Sequence[Lease]) -> bool:
        """Release conversions. This is tried only once, so that a stopping instance does not wait for the store.

        Returns whether it succeeded. If not, the leases run out instead.
        """
        try:
            if leases:
                await self._store.release(leases)
        except StoreError as error:
            self._events.emit(events.StoreFailed(operation="release", error=error))
            log.warning("release failed: the leases will run out instead", extra={"conversions": len(leases)})
            return False
        return True

    def _claimed_at(self, claimed: Conversion) -> float:
        """Return the time of the claim by the store's own clock, which may differ from this machine's."""
        return claimed.due_at - self._store.policy.lease_seconds

    async def _until_stored(self, operation: str, write: Callable[[], Awaitable[T]]) -> T:
        """Retry a write until it is stored, or until the store reports that the lease is lost.

        Raises:
            LeaseLost
        """
        while True:
            try:
                return await write()
            except LeaseLost:
                raise
            except StoreError as error:
                self._events.emit(events.StoreFailed(operation=operation, error=error))
                log.warning("the store did not take a write: repeating it", extra={"error": str(error)})
                await asyncio.sleep(self._pause_seconds)
