"""The JSON of batches in responses: combines the state of a batch and the signed link to its archive."""

import msgspec

from ytmp3.core.batch import Batch
from ytmp3.engine.batches import BatchState
from ytmp3.engine.jobs import Jobs
from ytmp3.http.addresses import Addresses
from ytmp3.http.batch_view import batch_view
from ytmp3.http.keys import Keys


class BatchJson:
    """Renders batches for their owners."""

    def __init__(self, *, jobs: Jobs, keys: Keys, addresses: Addresses) -> None:
        self._jobs = jobs
        self._keys = keys
        self._addresses = addresses

    async def of(self, state: BatchState) -> bytes:
        """Return a batch's JSON.

        Raises:
            StoreUnavailable
        """
        return msgspec.json.encode(batch_view(state, self._addresses, await self._link_until(state.batch)))

    async def _link_until(self, batch: Batch) -> int | None:
        """Return when the signed link to a batch's archive ends, or None if it gets no signed link."""
        signer = self._addresses.signer
        if signer is None or not self._keys.are_required or batch.completed_at is None:
            return None
        return signer.end(await self._jobs.now(), batch.expires_at)
