"""A worker's writes to the job store: each is repeated until the store takes it, then emitted as an event.

The rule: the end of an attempt exists only once the store has confirmed it. While the store does not answer, the worker
waits here with the conversion in hand; its lease may run out meanwhile, and then the store refuses the write with
LeaseLost, because another instance may have the conversion already.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ytmp3.core.errors import ConversionError, FailureCode, LeaseLost, StoreError
from ytmp3.core.job import Conversion, Lease, Metadata, Track
from ytmp3.core.states import is_stale, retry_delay_seconds
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.runs import Run
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore import JobStore

log = logging.getLogger(__name__)
T = TypeVar("T")


class Writes:
    """The writes of lease holders. Except for `release`, each raises LeaseLost when the lease is no longer held."""

    def __init__(
        self, settings: EngineSettings, *, store: JobStore, events: Events, random: Callable[[], float]
    ) -> None:
        self._store = store
        self._events = events
        self._random = random
        self._pause_seconds = settings.store_pause_seconds

    async def claim(self, conversion: Conversion, *, goes_on: Callable[[], bool]) -> Conversion | None:
        """Claim a queued conversion. None if it must not be started here.

        That is so if it was cancelled, or taken over by another instance, or if the store does not answer and `goes_on`
        says that this instance stops. In the last case the claim may have taken effect; then the lease runs out, and
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
        """Return whether the youngest job of a conversion was older than a retention when it was claimed just now.

        Only a conversion without an attempt can be stale. Its clients have most likely given up.
        """
        # The time of the claim by the store's own clock, which may differ from this machine's.
        policy = self._store.policy
        claimed_at = claimed.due_at - policy.lease_seconds
        return is_stale(claimed, now=claimed_at, retention_seconds=policy.retention_seconds)

    async def confirm(self, run: Run) -> None:
        """Return once the store has extended the lease of this run.

        Raises:
            LeaseLost
        """
        if await self._until_stored("renew", lambda: self._store.renew([run.renewal()])):
            raise LeaseLost

    async def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        """Record the published track, and return the conversion as done. The caller emits that it has finished.

        Raises:
            LeaseLost: the caller must delete the published file.
        """
        return await self._until_stored("finish", lambda: self._store.finish(lease, track, metadata))

    async def fail(self, conversion: Conversion, error: ConversionError, *, seconds: float | None) -> None:
        """Record that the conversion has failed, for all of its jobs. `seconds`: since the claim, if it was attempted.

        Raises:
            LeaseLost
        """
        await self._until_stored("fail", lambda: self._store.fail(conversion.lease, error.code))
        self._events.emit(
            events.Failed(conversion=conversion, code=error.code, reason=error.reason, seconds=seconds),
        )

    async def retry(self, conversion: Conversion, code: FailureCode, reason: str) -> None:
        """Queue the conversion again, held by no instance and due after a random delay. The attempt counts.

        Raises:
            LeaseLost
        """
        delay_seconds = retry_delay_seconds(conversion.attempts, self._random())
        await self._until_stored(
            "retry", lambda: self._store.retry(conversion.lease, code, delay_seconds=delay_seconds)
        )
        self._events.emit(events.Retried(conversion=conversion, code=code, reason=reason, delay_seconds=delay_seconds))

    async def put_back(self, conversion: Conversion) -> None:
        """Queue the conversion again, held by no instance and due at once. The attempt does not count."""
        await self._until_stored("release", lambda: self._store.release([conversion.lease]))

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give conversions back to the store. It is tried once: an instance that stops does not wait for the store."""
        try:
            if leases:
                await self._store.release(leases)
        except StoreError as error:
            self._events.emit(events.StoreFailed(operation="release", error=error))
            log.warning("release failed: the leases will run out instead", extra={"conversions": len(leases)})

    async def _until_stored(self, operation: str, write: Callable[[], Awaitable[T]]) -> T:
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
                self._events.emit(events.StoreFailed(operation=operation, error=error))
                log.warning("the store did not take a write: repeating it", extra={"error": str(error)})
                await asyncio.sleep(self._pause_seconds)
