"""The handlers of resources of a whole client: the list of its jobs, and its feed.

Here, a client is the owner of an API key. Clients without a key have no list and no feed, because several people may
share one IP address.
"""

import re
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from ytmp3.core.ids import ClientId, JobId
from ytmp3.engine.feeds import Feeds
from ytmp3.engine.jobs import Jobs
from ytmp3.http import headers
from ytmp3.http.addresses import Addresses
from ytmp3.http.admission import CLIENT
from ytmp3.http.download import downloadable_track, expired, split_file_name
from ytmp3.http.errors import FeedUnknown, InvalidCursor, InvalidField, KeysNotInUse, NotFound
from ytmp3.http.feed_xml import feed_document
from ytmp3.http.job_json import JobJson
from ytmp3.http.job_tracks import JobTracks
from ytmp3.http.keys import Keys
from ytmp3.http.wire import FeedView
from ytmp3.jobstore.found import Place

MAX_LIMIT: Final = 100
"""Most jobs on one page. Rendering them takes about 5 ms, in which no other request is served."""
DEFAULT_LIMIT: Final = 50
_CURSOR: Final = re.compile(r"([0-9]{1,12}\.[0-9]{1,9})-([0-9a-f]{34})", re.ASCII)


class ClientHandlers:
    """The routes of a client with an API key, and those that a feed's token gives access to."""

    def __init__(
        self, *, jobs: Jobs, feeds: Feeds, tracks: JobTracks, keys: Keys, addresses: Addresses, json: JobJson
    ) -> None:
        self._jobs = jobs
        self._feeds = feeds
        self._tracks = tracks
        self._keys = keys
        self._addresses = addresses
        self._json = json

    async def jobs(self, request: web.Request) -> web.Response:
        """GET /jobs."""
        limit, before = _limit_of(request), _place_of(request)
        found = await self._jobs.listed(self._owner(request), before=before, limit=limit)
        tickets = list(found.tickets.values())
        following = None
        if found.last is not None and len(tickets) + len(found.unread) == limit:
            following = self._addresses.of_jobs(limit=limit, cursor=_cursor_of(found.last))
        jobs = b",".join(await self._json.of_each(tickets))
        ends = (msgspec.json.encode(following), msgspec.json.encode(sorted(found.unread)))
        body = b'{"jobs":[%b],"next_url":%b,"unavailable":%b}' % (jobs, *ends)
        return web.Response(body=body, headers=headers.JSON)

    async def make_feed(self, request: web.Request) -> web.Response:
        """POST /feed."""
        token = await self._feeds.new_token(self._owner(request))
        view = FeedView(feed_url=self._addresses.absolute(request, f"/feed/{token}.xml"))
        return web.Response(body=msgspec.json.encode(view), status=HTTPStatus.CREATED, headers=headers.JSON)

    async def delete_feed(self, request: web.Request) -> web.Response:
        """DELETE /feed."""
        await self._feeds.delete(self._owner(request))
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers.EMPTY)

    async def feed(self, request: web.Request) -> web.Response:
        """GET /feed/TOKEN.xml."""
        token, extension = split_file_name(request.match_info["file_name"])
        if extension != "xml":
            raise FeedUnknown
        tickets = await self._feeds.tracks(await self._feed_owner(token))
        body = feed_document(
            tickets,
            feed_url=self._addresses.absolute(request, f"/feed/{token}.xml"),
            track_url=self._addresses.absolute(request, f"/feed/{token}"),
        )
        return web.Response(body=body, headers=headers.FEED)

    async def feed_track(self, request: web.Request) -> web.StreamResponse:
        """GET /feed/TOKEN/ID.mp3."""
        owner = await self._feed_owner(request.match_info["token"])
        job_id, extension = split_file_name(request.match_info["file_name"])
        ticket = await self._jobs.ticket(job_id, owner)
        if extension != ticket.conversion.recipe.extension:
            raise NotFound
        track, metadata = downloadable_track(ticket, ready_in_seconds=self._jobs.live(ticket).eta_seconds)
        if await self._jobs.has_expired(ticket):
            raise expired()
        return await self._tracks.send(request, ticket, track, metadata, owner)

    def _owner(self, request: web.Request) -> ClientId:
        """Return the owner of the API key that the request has presented."""
        if not self._keys.are_required:
            raise KeysNotInUse
        return request[CLIENT].owner

    async def _feed_owner(self, token: str) -> ClientId:
        """Return the client whose feed has this token. If its key was removed, its feed is no longer valid."""
        owner = await self._feeds.owner(token) if self._keys.are_required else None
        if owner is None or not self._keys.has_owner(owner):
            raise FeedUnknown
        return owner


def _limit_of(request: web.Request) -> int:
    values = request.query.getall("limit", [str(DEFAULT_LIMIT)])
    if len(values) != 1 or not re.fullmatch(r"[0-9]{1,3}", values[0], re.ASCII) or not 0 < int(values[0]) <= MAX_LIMIT:
        raise InvalidField(f"`limit` must be an integer from 1 to {MAX_LIMIT}.", field="limit")
    return int(values[0])


def _place_of(request: web.Request) -> Place | None:
    values = request.query.getall("cursor", ())
    match = _CURSOR.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        if values:
            raise InvalidCursor
        return None
    return Place(created_at=float(match[1]), job_id=JobId(match[2]))


def _cursor_of(place: Place) -> str:
    return f"{place.created_at!r}-{place.job_id}"
