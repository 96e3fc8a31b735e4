"""The handlers of the routes of batches."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import hdrs, web

from ytmp3.core.errors import BatchUnknown
from ytmp3.engine.batch_orders import BatchOrder
from ytmp3.engine.batches import Batches, BatchState
from ytmp3.engine.jobs import Jobs
from ytmp3.http import headers
from ytmp3.http.admission import CLIENT, LINK_UNTIL, owner_in
from ytmp3.http.archive import Archives
from ytmp3.http.batch_json import BatchJson
from ytmp3.http.batch_view import items_json
from ytmp3.http.body import MAX_BATCH_BODY_BYTES, MAX_BATCH_SECONDS, parse_batch_request, read_json_body
from ytmp3.http.errors import InvalidCursor, InvalidField, LinkExpired
from ytmp3.http.idempotency_key import idempotency_of
from ytmp3.http.job_json import JobJson
from ytmp3.http.keys import Keys
from ytmp3.http.webhook_targets import WebhookTargets

PAGE_ITEMS: Final = 100
"""Items on one page: about 100 kB of JSON, which takes 5 ms to read and render."""
_CURSOR: Final = re.compile(r"[0-9]{1,6}", re.ASCII)


class BatchHandlers:
    """The routes that create, show and cancel batches."""

    def __init__(
        self, *, batches: Batches, jobs: Jobs, archives: Archives, keys: Keys, webhooks: WebhookTargets, json: JobJson
    ) -> None:
        self._json = json
        self._batch_json = BatchJson(jobs=jobs, keys=keys, addresses=json.addresses)
        self._archives = archives
        self._batches = batches
        self._jobs = jobs
        self._keys = keys
        self._webhooks = webhooks
        self._addresses = json.addresses

    async def create(self, request: web.Request) -> web.Response:
        """POST /batches."""
        body = await read_json_body(request, max_bytes=MAX_BATCH_BODY_BYTES, seconds=MAX_BATCH_SECONDS)
        wanted = parse_batch_request(body)
        idempotency = idempotency_of(request, wanted)
        client = request[CLIENT]
        targets = self._webhooks.of(client, wanted.webhook)
        order = BatchOrder(recipe=wanted.recipe, webhooks=targets, tags=wanted.tags)
        match wanted.urls, wanted.playlist, wanted.chapters:
            case None, str(link), None:
                state = await self._batches.create_from_playlist(link, order, client, idempotency=idempotency)
            case None, None, str(link):
                state = await self._batches.create_from_chapters(link, order, client, idempotency=idempotency)
            case tuple(), None, None:
                state = await self._batches.create(wanted.lines, order, client, idempotency=idempotency)
            case _:
                raise InvalidField("Send one of `urls`, `playlist` and `chapters`.", field="urls")
        location = self._addresses.of_batch(state.batch.batch_id)
        return await self._batch(state, status=HTTPStatus.ACCEPTED, more={hdrs.LOCATION: location})

    async def read(self, request: web.Request) -> web.Response:
        """GET /batches/ID."""
        return await self._batch(
            await self._batches.read(request.match_info["batch_id"], owner_in(request, self._keys))
        )

    async def cancel(self, request: web.Request) -> web.Response:
        """DELETE /batches/ID."""
        return await self._batch(
            await self._batches.cancel(request.match_info["batch_id"], owner_in(request, self._keys))
        )

    async def items(self, request: web.Request) -> web.Response:
        """GET /batches/ID/items."""
        batch_id = request.match_info["batch_id"]
        start = _start(request.query.getall("cursor", ()))
        page = await self._batches.items(batch_id, owner_in(request, self._keys), start=start, limit=PAGE_ITEMS)
        jobs = {
            item.index: msgspec.Raw(await self._json.of(item.ticket)) for item in page.items if item.ticket is not None
        }
        return web.Response(body=items_json(batch_id, page, jobs, self._addresses), headers=headers.JSON)

    async def archive(self, request: web.Request) -> web.StreamResponse:
        """GET and HEAD /batches/ID/archive.zip."""
        batch_id, owner = request.match_info["archive_of"], owner_in(request, self._keys)
        link_until = request.get(LINK_UNTIL)
        if link_until is not None:
            if link_until <= await self._jobs.now():
                raise LinkExpired
            owner = (await self._batches.read(batch_id, None)).batch.client
            if not self._keys.has_owner(owner):
                # The owner's key was removed, so its links are no longer valid.
                raise BatchUnknown
        return await self._archives.send(request, batch_id, owner, request.query.get("revision"), request[CLIENT].owner)

    async def _batch(
        self, state: BatchState, *, status: HTTPStatus = HTTPStatus.OK, more: Mapping[str, str] | None = None
    ) -> web.Response:
        body = await self._batch_json.of(state)
        return web.Response(body=body, status=status, headers=headers.extended(headers.JSON, more or {}))


def _start(cursors: tuple[str, ...] | list[str]) -> int:
    """Return the index that a page begins with.

    Raises:
        InvalidCursor
    """
    if not cursors:
        return 0
    if len(cursors) > 1 or not _CURSOR.fullmatch(cursors[0]):
        raise InvalidCursor
    return int(cursors[0])
