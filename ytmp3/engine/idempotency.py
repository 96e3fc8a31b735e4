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
from typing import Final, Generic, TypeVar

from msgspec import Struct

from ytmp3.core.errors import IdempotencyKeyReused
from ytmp3.core.ids import ClientId
from ytmp3.engine.jobs import as_request_errors
from ytmp3.jobstore import JobStore

Resource = TypeVar("Resource")

UNFINISHED_SECONDS: Final = 60.0
"""How long, in seconds, an id may be reserved while its resource does not exist: the first request is still on its way
to the store, or its instance crashed. It is far longer than any request takes."""


class Idempotency(Struct, frozen=True, kw_only=True):
    """The key and the content of a request, by which a repetition is recognised."""

    key: str
    """The key as the client chose it. Keys of different clients are different."""
    request: bytes
    """The request in a canonical form, such as its decoded body, encoded again."""


class IdempotencyKeys(Generic[Resource]):
    """Finds the resource that a request with a key has created, or the id under which to create it.

    `kind` names the kind of resource. `find` reads one by its id (None: it does not exist), and `life_seconds` is an
    upper bound of the time for which it exists.
    """

    def __init__(
        self, store: JobStore, *, kind: str, life_seconds: float, find: Callable[[str], Awaitable[Resource | None]]
    ) -> None:
        self._store = store
        self._kind = kind
        self._life_seconds = life_seconds
        self._find = find

    async def first(self, idempotency: Idempotency, client: ClientId, proposed: str) -> tuple[str, Resource | None]:
        """Return the id that the first request with the key has reserved, and its resource.

        For a first request, the id is `proposed`. The resource is None if it does not exist: the caller then creates it
        under the returned id. Another request may do the same at the same time.

        Raises:
            IdempotencyKeyReused: the key belongs to another request.
            StorageFull, StoreUnavailable
        """
        name = hashlib.sha256(f"{client}\n{self._kind}\n{idempotency.key}".encode()).hexdigest()
        fingerprint = hashlib.sha256(idempotency.request).hexdigest()
        reserve = partial(self._store.clients.reserve, life_seconds=self._life_seconds)
        reserved = await as_request_errors(reserve(name, fingerprint, proposed))
        found: Resource | None = None
        if reserved.age_seconds >= UNFINISHED_SECONDS:
            found = await self._find(reserved.resource_id)
            if found is None:
                call = reserve(name, fingerprint, proposed, instead_of=reserved.resource_id)
                reserved = await as_request_errors(call)
        if reserved.fingerprint != fingerprint:
            raise IdempotencyKeyReused
        if found is None and reserved.resource_id != proposed:
            found = await self._find(reserved.resource_id)
        return reserved.resource_id, found
