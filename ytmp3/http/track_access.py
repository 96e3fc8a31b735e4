"""Who may have the sound of a job: its owner, or whoever has a valid signed link to it."""

from aiohttp import web

from ytmp3.core.errors import JobUnknown
from ytmp3.core.job import Ticket
from ytmp3.engine.jobs import Jobs
from ytmp3.http.admission import LINK_UNTIL, owner_in
from ytmp3.http.errors import LinkExpired
from ytmp3.http.keys import Keys


async def ticket_of(request: web.Request, job_id: str, jobs: Jobs, keys: Keys) -> Ticket:
    """Return the job of a request for its track or its sound.

    Raises:
        JobUnknown: also if the request gives no access to it.
        LinkExpired, StoreUnavailable
    """
    link_until = request.get(LINK_UNTIL)
    if link_until is None:
        return await jobs.ticket(job_id, owner_in(request, keys))
    if link_until <= await jobs.now():
        raise LinkExpired
    ticket = await jobs.ticket(job_id, None)
    if not keys.has_owner(ticket.job.client):
        # The owner's key was removed, so its links are no longer valid.
        raise JobUnknown
    return ticket
