"""The routes: parse, call one thing, render. No decisions here."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import hdrs, web

from ytmp3 import __version__
from ytmp3.core.errors import FAILURES, JobUnknown
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Status, Ticket
from ytmp3.core.recipe import EXTENSIONS
from ytmp3.engine.health import Health, Readiness
from ytmp3.engine.intake import Intake
from ytmp3.engine.jobs import Jobs
from ytmp3.http import openapi
from ytmp3.http import problems as problem
from ytmp3.http.admission import CLIENT, Gate, Handler
from ytmp3.http.body import _expect, _parse_body, _read_body
from ytmp3.http.download import Sender
from ytmp3.http.errors import NotReady, TrackGone
from ytmp3.http.keys import Keys
from ytmp3.http.routes import ROUTES
from ytmp3.http.stats import Stats
from ytmp3.http.view import Renderer
from ytmp3.metrics import Metrics

UNREADY_RETRY_SECONDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What the routes call."""

    intake: Intake
    jobs: Jobs
    health: Health
    stats: Stats
    metrics: Metrics
    sender: Sender
    keys: Keys


class Api:
    """The handlers."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._renderer = Renderer()

    def add_routes(self, router: web.UrlDispatcher, gate: Gate) -> None:
        """Register every route; those for probes and scrapers are not limited."""
        for route in ROUTES:
            handler: Handler = getattr(self, route.operation)
            outer = gate.guard(handler) if route.is_limited else handler
            # The extension belongs to the name that is matched by us: a pattern of the router's would decode first.
            # Anything is a job's id to the router (its own pattern has no braces), so that all answers are the same.
            path = route.path.replace("{job_id}.mp3", "{file_name}").replace("}", ":[^/]+}")
            router.add_route(route.method, path, outer, expect_handler=_expect)
            if route.method == hdrs.METH_GET:
                router.add_route(hdrs.METH_HEAD, path, outer, expect_handler=_expect)

    async def extract(self, request: web.Request) -> web.Response:
        """POST /extract."""
        body = await _read_body(request)
        wanted = _parse_body(body)
        ticket = await self._rooms.intake.submit(wanted.url, wanted.recipe, request[CLIENT])
        status = HTTPStatus.OK if ticket.status is Status.COMPLETED else HTTPStatus.ACCEPTED
        return self._job(ticket, status=status, headers={hdrs.LOCATION: f"/status/{ticket.job.job_id}"})

    async def status(self, request: web.Request) -> web.Response:
        """GET /status/ID."""
        return self._job(await self._rooms.jobs.ticket(request.match_info["job_id"], self._owner(request)))

    async def cancel(self, request: web.Request) -> web.Response:
        """DELETE /jobs/ID."""
        return self._job(await self._rooms.jobs.cancel(request.match_info["job_id"], self._owner(request)))

    async def download(self, request: web.Request) -> web.StreamResponse:
        """GET and HEAD /download/ID.mp3."""
        job_id, _, extension = request.match_info["file_name"].rpartition(".")
        if extension not in EXTENSIONS:
            raise JobUnknown
        ticket = await self._rooms.jobs.ticket(job_id, self._owner(request))
        conversion = ticket.conversion
        if extension != conversion.recipe.extension:
            raise JobUnknown
        match ticket.status:
            case Status.PENDING | Status.PROCESSING:
                raise NotReady(retry_after_seconds=self._rooms.jobs.live(ticket).eta_seconds)
            case Status.CANCELLED:
                raise TrackGone("cancelled", "The job was cancelled.")
            case Status.FAILED:
                code = conversion.error
                raise TrackGone(code or "failed", FAILURES[code].message if code else "The job failed.")
        is_expired = conversion.expires_at is not None and conversion.expires_at <= time.time()
        if conversion.track is None or conversion.metadata is None or is_expired:
            raise TrackGone("expired", "The track is no longer kept.")
        return await self._rooms.sender.send(
            request, conversion.track, conversion.metadata, conversion.recipe, request[CLIENT].owner
        )

    async def health(self, request: web.Request) -> web.Response:
        """GET /health: readiness, from the health: nothing is asked now."""
        readiness = self._rooms.health.readiness
        document = {
            "status": readiness,
            "checks": self._rooms.health.checks,
        }
        if readiness is Readiness.OK:
            return _json(document)
        response = _json(document, status=HTTPStatus.SERVICE_UNAVAILABLE)
        response.headers[hdrs.RETRY_AFTER] = str(UNREADY_RETRY_SECONDS)
        return response

    async def live(self, request: web.Request) -> web.Response:
        """GET /health/live: that this is answered is the answer."""
        return _json({"status": "ok"})

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics."""
        body = self._rooms.metrics.exposition()
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"})

    async def stats(self, request: web.Request) -> web.Response:
        """GET /stats."""
        return _json(await self._rooms.stats.collect())

    async def openapi(self, request: web.Request) -> web.Response:
        """GET /openapi.json."""
        return _json(openapi.document(__version__))

    def _owner(self, request: web.Request) -> ClientId | None:
        """Who must own the job: nobody in particular where no keys are in use (the id is the secret)."""
        return request[CLIENT].owner if self._rooms.keys.are_required else None

    def _job(
        self, ticket: Ticket, *, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> web.Response:
        return _json_response(
            self._renderer.render(ticket, self._rooms.jobs.live(ticket)), status=status, headers=headers
        )


def _json(document: object, *, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return _json_response(orjson.dumps(document), status=status)


def _json_response(body: bytes, *, status: HTTPStatus, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, headers=problem.headers("application/json", headers))
