"""Idempotency keys: a request that is repeated with the same key gets the resource that the first request created.

The job store keeps, under a hash of the client and its key, the id that the first request generated for its resource,
and a hash of that request. A repeated request uses the same id, and creating a resource with an id that exists changes
nothing. So no response is stored, and simultaneous requests, at any instances, create one resource.

A key is valid as long as its resource exists: once the job or the batch has expired, the key may be used for another
request. Keys of jobs and keys of batches are independent. The header and its rules follow
draft-ietf-httpapi-idempotency-key-header-07, without its 409: a repeated request need not wait.
"""

import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from msgspec import Struct

from ytmp3.core.errors import IdempotencyKeyReused
from ytmp3.core.ids import ClientId
from ytmp3.engine.jobs import as_request_errors
from ytmp3.jobstore import JobStore

UNFINISHED_SECONDS: Final = 60.0
"""How long, in seconds, an id may be reserved while its resource does not exist: the first request is still on its way
to the store, or its instance crashed. It is far longer than any request takes."""


class Idempotency(Struct, frozen=True, kw_only=True):
    """The key and the content of a request, by which a repetition is recognised."""

    key: str
    """The key as the client chose it. Keys of different clients are different."""
    request: bytes
    """The request in a canonical form, such as its decoded body, encoded again."""


class IdempotencyKeys:
    """Finds the id of the resource that a request with a key creates or has created.

    `kind` names the kind of resource. `exists` tells whether a resource with an id exists, and `life_seconds` is an
    upper bound of the time for which it does.
    """

    def __init__(
        self, store: JobStore, *, kind: str, life_seconds: float, exists: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._store = store
        self._kind = kind
        self._life_seconds = life_seconds
        self._exists = exists

    async def resource_id(self, idempotency: Idempotency, client: ClientId, proposed: str) -> str:
        """Return the id to use: `proposed` for a first request, that of the first request for a repeated one.

        If no resource has the returned id, the caller creates it under this id; another request may do the same at the
        same time.

        Raises:
            IdempotencyKeyReused: the key belongs to another request.
            StorageFull, StoreUnavailable
        """
        name = hashlib.sha256(f"{client}\n{self._kind}\n{idempotency.key}".encode()).hexdigest()
        fingerprint = hashlib.sha256(idempotency.request).hexdigest()
        reserve = partial(self._store.clients.reserve, life_seconds=self._life_seconds)
        reserved = await as_request_errors(reserve(name, fingerprint, proposed))
        is_kept = reserved.age_seconds < UNFINISHED_SECONDS or await self._exists(reserved.resource_id)
        if not is_kept:
            reserved = await as_request_errors(reserve(name, fingerprint, proposed, instead_of=reserved.resource_id))
        if reserved.fingerprint != fingerprint:
            raise IdempotencyKeyReused
        return reserved.resource_id
