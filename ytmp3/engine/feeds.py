"""Feeds: a client's finished tracks as a podcast.

The address of a feed has a secret token, because podcast apps send no API key. The job store keeps only the token's
hash, so a token is shown once, when it is made.

A client has one token at a time. Creating a new token, or deleting the token, invalidates the old one at once.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Final

from ytmp3.core.ids import ClientId, shard_of
from ytmp3.core.job import Status, Ticket
from ytmp3.engine.jobs import Jobs, as_request_errors, complete
from ytmp3.jobstore import ClientRecords
from ytmp3.jobstore.found import Place

TOKEN_BYTES: Final = 24
"""Random bytes of a token. With 192 bits, a plain SHA-256 at rest is enough."""
MAX_TRACKS: Final = 100
"""Most tracks in a feed. Some apps download all at once."""
JOBS_AT_ONCE: Final = 100
"""Jobs that are read at once to find the finished ones."""
MAX_READS: Final = 5
"""Most reads for one feed, so that a client with many unfinished or failed jobs does not make it slow."""
_TOKEN: Final = re.compile(rf"[0-9a-f]{{{2 + 2 * TOKEN_BYTES}}}", re.ASCII)


class Feeds:
    """Makes, checks and deletes tokens, and finds the tracks of a feed. Raises RequestErrors only."""

    def __init__(
        self, records: ClientRecords, jobs: Jobs, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._records = records
        self._jobs = jobs
        self._random_bytes = random_bytes

    async def new_token(self, client: ClientId) -> str:
        """Create a token for a client, which replaces its old one. It begins with the client's shard.

        Raises:
            StorageFull, StoreUnavailable
        """
        token = shard_of(client) + self._random_bytes(TOKEN_BYTES).hex()
        await as_request_errors(self._records.set_feed(client, _digest_of(token)))
        return token

    async def delete(self, client: ClientId) -> None:
        """Delete a client's token, if it has one.

        Raises:
            StoreUnavailable
        """
        await as_request_errors(self._records.set_feed(client, None))

    async def owner(self, token: str) -> ClientId | None:
        """Return the client that a token belongs to; None if it is not valid. `token` may be any text.

        Raises:
            StoreUnavailable
        """
        if _TOKEN.fullmatch(token) is None:
            return None
        return await as_request_errors(self._records.feed_owner(_digest_of(token)))

    async def tracks(self, client: ClientId) -> list[Ticket]:
        """Return the finished jobs of a client, the newest first, each video and recipe once.

        A podcast app may remove tracks that are missing in a feed, so a feed is complete or refused.

        Raises:
            StoreUnavailable: the store, or a part of it, does not reply.
        """
        found: dict[str, Ticket] = {}
        before: Place | None = None
        for _ in range(MAX_READS):
            page = await self._jobs.listed(client, before=before, limit=JOBS_AT_ONCE)
            tickets = list(complete(page).values())
            for ticket in tickets:
                if ticket.status is Status.COMPLETED:
                    found.setdefault(ticket.conversion.key, ticket)
            if len(found) >= MAX_TRACKS or len(tickets) < JOBS_AT_ONCE:
                break
            before = Place(created_at=tickets[-1].job.created_at, job_id=tickets[-1].job.job_id)
        return list(found.values())[:MAX_TRACKS]


def _digest_of(token: str) -> str:
    """Return the hash of a token. It begins with the shard, too, so the store finds it next to its client."""
    return token[:2] + hashlib.sha256(token.encode()).hexdigest()
