"""The JSON of jobs in responses: combines the record, the live progress and the signed link to the track."""

from collections.abc import Iterable

from ytmp3.core.job import Status, Ticket
from ytmp3.engine.jobs import Jobs, Live
from ytmp3.http.addresses import Addresses
from ytmp3.http.keys import Keys
from ytmp3.http.view import Renderer


class JobJson:
    """Renders jobs for their owners."""

    def __init__(self, *, jobs: Jobs, keys: Keys, addresses: Addresses) -> None:
        self._jobs = jobs
        self._keys = keys
        self.addresses = addresses
        """The addresses in the JSON."""
        self._signer = addresses.signer
        self._renderer = Renderer(addresses)

    async def of(self, ticket: Ticket, live: Live | None = None, *, has_playlist: bool = False) -> bytes:
        """Return a job's JSON. `live`: its live state, if the caller has it already.

        `has_playlist`: this is the response to a submission whose link names a playlist besides the video.

        Raises:
            StoreUnavailable
        """
        live = self._jobs.live(ticket) if live is None else live
        return self._renderer.render(ticket, live, await self._link_until(ticket), has_playlist=has_playlist)

    async def of_each(self, tickets: Iterable[Ticket]) -> list[bytes]:
        """Return the JSON of several jobs.

        Raises:
            StoreUnavailable
        """
        return [await self.of(ticket) for ticket in tickets]

    async def _link_until(self, ticket: Ticket) -> int | None:
        """Return when the signed link to a job's track or sound ends, or None if the job gets no signed link."""
        has_link = ticket.status in {Status.PENDING, Status.PROCESSING, Status.COMPLETED}
        if self._signer is None or not self._keys.are_required or not has_link:
            return None
        return self._signer.end(await self._jobs.now(), ticket.conversion.expires_at)
