"""The handlers of all routes: each parses its request, calls one thing, and renders the result."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from ytmp3 import __version__
from ytmp3.core.errors import JobUnknown
from ytmp3.core.job import Status, Ticket
from ytmp3.core.link import parse_link
from ytmp3.engine.capacity import UNREADY_RETRY_SECONDS
from ytmp3.engine.health import Check, Health
from ytmp3.engine.intake import Intake
from ytmp3.engine.jobs import Jobs
from ytmp3.engine.subscriptions import Subscriptions
from ytmp3.http import headers, openapi, routes
from ytmp3.http.admission import CLIENT, Admission, owner_in
from ytmp3.http.batch_api import BatchHandlers
from ytmp3.http.batch_events import BatchEventHandlers
from ytmp3.http.body import answer_expectation, parse_extract_request, read_json_body
from ytmp3.http.client_handlers import ClientHandlers
from ytmp3.http.cover import CoverHandlers
from ytmp3.http.deliveries import DeliveryHandlers
from ytmp3.http.download import downloadable_track, expired, split_file_name
from ytmp3.http.errors import NotFound
from ytmp3.http.idempotency_key import idempotency_of
from ytmp3.http.job_events import JobSource, wanted_jobs
from ytmp3.http.job_json import JobJson
from ytmp3.http.job_tracks import JobTracks
from ytmp3.http.keys import Keys
from ytmp3.http.links import LinkSigner
from ytmp3.http.listen import ListenHandlers
from ytmp3.http.probe import ProbeHandlers
from ytmp3.http.program import ProgramHandlers
from ytmp3.http.routes import Route
from ytmp3.http.stats import Stats
from ytmp3.http.streams import EventStreams
from ytmp3.http.track_access import ticket_of
from ytmp3.http.webhook_targets import WebhookTargets
from ytmp3.http.wire import CheckView, HealthView, LiveView
from ytmp3.metrics import Metrics


class JobHandlers:
    """The routes that create, show, cancel and download jobs."""

    def __init__(
        self,
        *,
        intake: Intake,
        jobs: Jobs,
        tracks: JobTracks,
        keys: Keys,
        webhooks: WebhookTargets,
        json: JobJson,
    ) -> None:
        self._intake = intake
        self._webhooks = webhooks
        self._jobs = jobs
        self._tracks = tracks
        self._keys = keys
        self._json = json

    async def extract(self, request: web.Request) -> web.Response:
        """POST /extract."""
        wanted = parse_extract_request(await read_json_body(request))
        idempotency = idempotency_of(request, wanted)
        client = request[CLIENT]
        targets = self._webhooks.of(client, wanted.webhook)
        ticket = await self._intake.submit(
            wanted.url, wanted.recipe, client, webhooks=targets, edits=wanted.edits, idempotency=idempotency
        )
        status = HTTPStatus.OK if ticket.status is Status.COMPLETED else HTTPStatus.ACCEPTED
        location = self._json.addresses.of_job(ticket.job.job_id)
        has_playlist = parse_link(wanted.url).has_playlist
        return await self._job(ticket, status=status, more={hdrs.LOCATION: location}, has_playlist=has_playlist)

    async def status(self, request: web.Request) -> web.Response:
        """GET /status/ID."""
        owner = owner_in(request, self._keys)
        return await self._job(await self._jobs.ticket(request.match_info["job_id"], owner, may_lag=True))

    async def cancel(self, request: web.Request) -> web.Response:
        """DELETE /jobs/ID."""
        return await self._job(await self._jobs.cancel(request.match_info["job_id"], owner_in(request, self._keys)))

    async def download(self, request: web.Request) -> web.StreamResponse:
        """GET and HEAD /download/ID.mp3, or with the extension of another format. The extension may be missing."""
        job_id, extension = split_file_name(request.match_info["file_name"])
        ticket = await ticket_of(request, job_id, self._jobs, self._keys)
        own_extension = ticket.conversion.recipe.extension
        if extension not in {None, own_extension}:
            raise NotFound(f"This job's track has another extension: ask for /download/ID.{own_extension}.")
        track, metadata = downloadable_track(ticket, ready_in_seconds=self._jobs.live(ticket).eta_seconds)
        if await self._jobs.has_expired(ticket):
            raise expired()
        return await self._tracks.send(request, ticket, track, metadata, request[CLIENT].owner)

    async def _job(
        self,
        ticket: Ticket,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        more: Mapping[str, str] | None = None,
        has_playlist: bool = False,
    ) -> web.Response:
        return _json(await self._json.of(ticket, has_playlist=has_playlist), status=status, more=more)


class EventHandlers:
    """The routes of event streams."""

    def __init__(
        self, *, jobs: Jobs, subscriptions: Subscriptions, streams: EventStreams, keys: Keys, json: JobJson
    ) -> None:
        self._jobs = jobs
        self._subscriptions = subscriptions
        self._streams = streams
        self._keys = keys
        self._json = json

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET /events."""
        job_ids = wanted_jobs(request)
        owner = owner_in(request, self._keys)
        found = await self._jobs.tickets(job_ids, owner)
        if not found.tickets and not found.unread:
            raise JobUnknown
        with self._subscriptions.open(found.tickets.values()) as subscription:
            source = JobSource(subscription, self._json)
            source.add_unknown(sorted(set(job_ids) - found.tickets.keys() - found.unread))
            source.read_later(sorted(found.unread), lambda some: self._jobs.tickets(some, owner))
            return await self._streams.send(request, request[CLIENT].owner, source)


def link_end(request: web.Request, signer: LinkSigner | None) -> int | None:
    """Return when the signed link of a request ends, or None if the request has no valid signed link."""
    parts = request.match_info
    linked_id = parts.get("archive_of") or split_file_name(parts.get("file_name", ""))[0]
    if signer is None or not linked_id:
        return None
    query = request.query
    return signer.verified_end(linked_id, query.getall("until", ()), query.getall("signature", ()))


class OperationHandlers:
    """The routes for probes, scrapers and operators."""

    def __init__(self, *, health: Health, stats: Stats, metrics: Metrics, public_path: str) -> None:
        self._public_path = public_path
        self._health = health
        self._stats = stats
        self._metrics = metrics

    async def health(self, _: web.Request) -> web.Response:
        """GET /health. Shows the latest results of the checks. It runs no check, so the response is immediate."""
        readiness = self._health.readiness
        view = HealthView(
            status=readiness,
            checks={name: _check_view(check) for name, check in self._health.checks.items()},
        )
        if self._health.is_ready:
            return _json(msgspec.json.encode(view))
        more: dict[str, str] = {hdrs.RETRY_AFTER: str(UNREADY_RETRY_SECONDS)}
        return _json(msgspec.json.encode(view), status=HTTPStatus.SERVICE_UNAVAILABLE, more=more)

    async def live(self, _: web.Request) -> web.Response:
        """GET /health/live. Any response proves that the event loop runs."""
        return _json(msgspec.json.encode(LiveView(status="ok")))

    async def metrics(self, _: web.Request) -> web.Response:
        """GET /metrics."""
        return web.Response(body=self._metrics.exposition(), headers=headers.METRICS)

    async def stats(self, _: web.Request) -> web.Response:
        """GET /stats."""
        # Indented, because it is read by people.
        return _json(msgspec.json.format(msgspec.json.encode(await self._stats.collect()), indent=2))

    async def openapi(self, _: web.Request) -> web.Response:
        """GET /openapi.json."""
        return _json(msgspec.json.encode(openapi.document(__version__, public_path=self._public_path)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """The handlers of all routes."""

    jobs: JobHandlers
    probes: ProbeHandlers
    covers: CoverHandlers
    listen: ListenHandlers
    events: EventHandlers
    deliveries: DeliveryHandlers
    batches: BatchHandlers
    batch_events: BatchEventHandlers
    clients: ClientHandlers
    operations: OperationHandlers
    program: ProgramHandlers


def add_routes(router: web.UrlDispatcher, admission: Admission, handlers: Handlers) -> None:
    """Bind every route to its handler. Routes that are not limited bypass `admission`."""
    jobs, events, batches, clients = handlers.jobs, handlers.events, handlers.batches, handlers.clients
    deliveries, operations = handlers.deliveries, handlers.operations
    bindings: tuple[tuple[Route, Handler], ...] = (
        (routes.EXTRACT, jobs.extract),
        (routes.PROBE, handlers.probes.probe),
        (routes.STATUS, jobs.status),
        (routes.DOWNLOAD, jobs.download),
        (routes.LISTEN, handlers.listen.listen),
        (routes.COVER, handlers.covers.cover),
        (routes.CANCEL, jobs.cancel),
        (routes.EVENTS, events.events),
        (routes.DELIVERIES, deliveries.of_job),
        (routes.REDELIVER, deliveries.redeliver_of_job),
        (routes.CREATE_BATCH, batches.create),
        (routes.BATCH, batches.read),
        (routes.ITEMS, batches.items),
        (routes.CANCEL_BATCH, batches.cancel),
        (routes.BATCH_DELIVERIES, deliveries.of_batch),
        (routes.REDELIVER_BATCH, deliveries.redeliver_of_batch),
        (routes.BATCH_EVENTS, handlers.batch_events.events),
        (routes.ARCHIVE, batches.archive),
        (routes.JOBS, clients.jobs),
        (routes.MAKE_FEED, clients.make_feed),
        (routes.DELETE_FEED, clients.delete_feed),
        (routes.FEED, clients.feed),
        (routes.FEED_TRACK, clients.feed_track),
        (routes.HEALTH, operations.health),
        (routes.LIVE, operations.live),
        (routes.METRICS, operations.metrics),
        (routes.STATS, operations.stats),
        (routes.OPENAPI, operations.openapi),
        (routes.PROGRAM, handlers.program.program),
    )
    for route, handler in bindings:
        guarded = admission.guard(handler, needs_key=route.needs_key) if route.is_limited else handler
        methods = (hdrs.METH_GET, hdrs.METH_HEAD) if route.method == hdrs.METH_GET else (route.method,)
        for method in methods:
            router.add_route(method, route.pattern, guarded, expect_handler=answer_expectation)


def _check_view(check: Check) -> CheckView:
    age_seconds = None if check.at is None else round(time.monotonic() - check.at, 1)
    return CheckView(ok=check.ok, detail=check.detail, age_seconds=age_seconds)


def _json(body: bytes, *, status: HTTPStatus = HTTPStatus.OK, more: Mapping[str, str] | None = None) -> web.Response:
    # The newline at the end keeps a shell's prompt off the line of curl's output.
    return web.Response(body=body + b"\n", status=status, headers=headers.extended(headers.JSON, more or {}))
