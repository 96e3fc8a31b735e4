"""Builds the handlers of all routes from the parts of the engine, and what signs and makes their addresses."""

from dataclasses import dataclass

from ytmp3.engine.assembly import Engine
from ytmp3.http.addresses import Addresses
from ytmp3.http.api import EventHandlers, Handlers, JobHandlers, OperationHandlers
from ytmp3.http.archive import Archives
from ytmp3.http.batch_api import BatchHandlers
from ytmp3.http.batch_events import BatchEventHandlers
from ytmp3.http.batch_json import BatchJson
from ytmp3.http.client_handlers import ClientHandlers
from ytmp3.http.cover import CoverHandlers
from ytmp3.http.deliveries import DeliveryHandlers
from ytmp3.http.download import Sender
from ytmp3.http.edited_tracks import EditedTracks
from ytmp3.http.job_json import JobJson
from ytmp3.http.job_tracks import JobTracks
from ytmp3.http.keys import Keys
from ytmp3.http.links import LinkSigner
from ytmp3.http.listen import Listeners, ListenHandlers
from ytmp3.http.page.handlers import PageHandlers
from ytmp3.http.page.sessions import Sessions, SessionSigner
from ytmp3.http.probe import ProbeHandlers
from ytmp3.http.program import ProgramHandlers
from ytmp3.http.settings import HttpSettings
from ytmp3.http.streams import EventStreams
from ytmp3.http.webhook_targets import WebhookTargets
from ytmp3.webhooks.endpoints import Endpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """The parts that send long responses, and limit their number."""

    tracks: Sender
    sound: Listeners
    events: EventStreams


def handlers(
    engine: Engine,
    keys: Keys,
    endpoints: Endpoints,
    addresses: Addresses,
    sending: Sending,
    operations: OperationHandlers,
) -> Handlers:
    """Return the handlers of the API."""
    sender, streams = sending.tracks, sending.events
    json, webhooks = JobJson(jobs=engine.jobs, keys=keys, addresses=addresses), WebhookTargets(endpoints)
    edited = EditedTracks(sender)
    tracks = JobTracks(sender, edited)
    return Handlers(
        jobs=JobHandlers(
            intake=engine.intake, jobs=engine.jobs, tracks=tracks, keys=keys, webhooks=webhooks, json=json
        ),
        probes=ProbeHandlers(engine.descriptions),
        covers=CoverHandlers(jobs=engine.jobs, shelf=sender.shelf, keys=keys),
        listen=ListenHandlers(
            jobs=engine.jobs,
            listening=engine.listening,
            sender=sender,
            keys=keys,
            addresses=addresses,
            listeners=sending.sound,
        ),
        events=EventHandlers(
            jobs=engine.jobs, subscriptions=engine.subscriptions, streams=streams, keys=keys, json=json
        ),
        clients=ClientHandlers(
            jobs=engine.jobs, feeds=engine.feeds, tracks=tracks, keys=keys, addresses=addresses, json=json
        ),
        deliveries=DeliveryHandlers(deliveries=engine.deliveries, jobs=engine.jobs, batches=engine.batches, keys=keys),
        batches=BatchHandlers(
            batches=engine.batches,
            jobs=engine.jobs,
            archives=Archives(batches=engine.batches, sender=sender, edited=edited),
            keys=keys,
            webhooks=webhooks,
            json=json,
        ),
        batch_events=BatchEventHandlers(
            batches=engine.batches,
            subscriptions=engine.subscriptions,
            streams=streams,
            keys=keys,
            json=json,
            batch_json=BatchJson(jobs=engine.jobs, keys=keys, addresses=addresses),
        ),
        operations=operations,
        program=ProgramHandlers(public_url=addresses.public_url),
    )


def page(
    engine: Engine,
    keys: Keys,
    endpoints: Endpoints,
    addresses: Addresses,
    sessions: Sessions | None,
    public_path: str,
) -> PageHandlers:
    """Return the handlers of the web page, which a proxy serves below `public_path`."""
    return PageHandlers(
        intake=engine.intake,
        jobs=engine.jobs,
        webhooks=WebhookTargets(endpoints),
        keys=keys,
        addresses=addresses,
        sessions=sessions,
        base=public_path,
    )


def link_signer(settings: HttpSettings, secret: bytes | None) -> LinkSigner | None:
    """Return the signer of download links, or None if they are not enabled."""
    if secret is None or settings.download_link_seconds == 0:
        return None
    return LinkSigner(secret, seconds=settings.download_link_seconds)


def sessions_of(settings: HttpSettings, keys: Keys, secret: bytes | None) -> Sessions | None:
    """Return the sessions of the page, or None without API keys or without the page."""
    return None if secret is None or not settings.page else Sessions(SessionSigner(secret), keys)


def addresses_of(settings: HttpSettings, signer: LinkSigner | None, download_origin: str) -> Addresses:
    """Return what makes addresses. `download_origin` is where downloads are redirected to; empty: nowhere."""
    return Addresses(
        public_path=settings.public_path,
        public_url=settings.public_url,
        signer=signer,
        download_origin=download_origin,
    )
