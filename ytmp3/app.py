"""The composition root: builds all parts, connects them, and stops them in reverse order.

This is the only module that imports every adapter. `serve` runs the service that is built here; tests build one with
another converter.
"""

import asyncio
import contextlib
import hashlib
import logging
import platform
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from ytmp3.config import Config, ConfigError
from ytmp3.converter import Converter, SandboxIncompleteError
from ytmp3.converter.identities import only_identity
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.sandbox.limits import Kernel
from ytmp3.converter.settings import ConversionLimits, Identity, ToolSettings
from ytmp3.core.client import ApiKey
from ytmp3.core.errors import StoreDown, StoreUnusable
from ytmp3.core.identities import Budget
from ytmp3.core.ids import INSTANCE_CHARACTERS, InstanceId, new_instance_id
from ytmp3.core.webhook import WebhookEvent
from ytmp3.engine.assembly import Engine, Outside, assemble
from ytmp3.engine.event_log import log_event
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.release_updates import UpstreamForUpdates
from ytmp3.engine.runs import Runs
from ytmp3.engine.upstream import Upstream
from ytmp3.engine.workers import Workers, places_of
from ytmp3.gauges import register_gauges, versions
from ytmp3.http.addresses import Addresses
from ytmp3.http.admission import Admission, RateLimits
from ytmp3.http.api import OperationHandlers, add_routes, link_end
from ytmp3.http.assembly import Sending, addresses_of, handlers, link_signer, page, sessions_of
from ytmp3.http.connection_limit import ConnectionLimit, limit_of_process
from ytmp3.http.download import Sender
from ytmp3.http.keys import KeyFileError, Keys
from ytmp3.http.keys_file import read_keys_file
from ytmp3.http.links import SECRET_BYTES, LinkSigner
from ytmp3.http.listen import Listeners
from ytmp3.http.middleware import RequestMiddleware
from ytmp3.http.page.sessions import Sessions
from ytmp3.http.settings import HttpSettings
from ytmp3.http.stats import Stats, Tally
from ytmp3.http.streams import EventStreams
from ytmp3.http.webhook_messages import BatchMessages, JobMessages
from ytmp3.identities_file import IdentitiesFileError, read_identities_file
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.jobstore.sqlite.file import note_holder
from ytmp3.metrics import Metrics
from ytmp3.storage import Shelf, ShelfDown
from ytmp3.storage.files import Files
from ytmp3.storage.local import LocalShelf
from ytmp3.storage.scratch import Scratch
from ytmp3.storage.secret_file import shared_secret
from ytmp3.webhooks.endpoints import Endpoint, Endpoints, EndpointsFileError, read_endpoints_file
from ytmp3.webhooks.sender import WebhookSender
from ytmp3.webhooks.transport import HttpTransport

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts of a running instance that `serve` and the tests use."""

    config: Config
    app: web.Application
    queue: FairQueue
    runs: Runs
    workers: Workers
    health: Health
    sender: Sender
    listeners: Listeners
    streams: EventStreams
    upstream: Upstream
    converter: Converter
    keys: Keys
    store: JobStore
    webhooks: WebhookSender
    connections: ConnectionLimit


OpenStore = Callable[[Config, InstanceId], Awaitable[JobStore]]
"""Opens the job store of an instance. Tests pass a store with a clock that they control."""
MakeConverter = Callable[[ToolSettings, ConversionLimits, Path], Converter]
"""Makes the converter. The path is a folder for the files of its health checks. Tests pass a fake converter."""


@asynccontextmanager
async def running(
    config: Config, make_converter: MakeConverter = Pipeline, open_store: OpenStore | None = None
) -> AsyncIterator[Service]:
    """Build and start every part; stop them in reverse order when the block ends.

    Raises:
        ConfigError: the keys file or the data folder cannot be used.
        StoreUnusable: the embedded store's file must not be used; nothing was changed.
    """
    async with AsyncExitStack() as stack:
        instance = _new_instance(config)
        metrics, tally = Metrics(), Tally()
        keys = Keys(read_keys(config.api_keys_file))
        endpoints = Endpoints(read_endpoints(config), config.webhooks.private_hosts)
        identities = read_identities(config)
        shelf = await _open_shelf(config, metrics)
        scratch = Scratch(config.data_dir / "scratch", instance=instance, reserve_bytes=config.disk_reserve_bytes)
        await _open_scratch(config.data_dir, scratch)
        stack.push_async_callback(scratch.close)
        store = await (open_store or _open_store)(config, instance)
        stack.push_async_callback(store.close)
        converter = make_converter(config.tools, config.limits, await scratch.lasting_folder("tools"))
        stack.push_async_callback(converter.close)
        converter.use_identities(identities)
        await _open_converter(converter)
        files = Files(shelf=shelf, scratch=scratch)
        outside = Outside(store=store, files=files, converter=converter, find_client=keys.client_of)
        engine = assemble(config.engine, outside, Events(log_event, metrics.on_event, tally.on_event))
        engine.upstream.identities.use(budgets_of(identities))
        engine.start()
        converter.start_updates(UpstreamForUpdates(engine.upstream, store.values))
        stack.push_async_callback(engine.close)
        sending = _sending(config.http, shelf, engine.health, metrics)
        register_gauges(metrics, engine, converter, sending)
        secret = await _shared_secret(config)
        signer, sessions = link_signer(config.http, secret), sessions_of(config.http, keys, secret)
        admission = _admission(config.http, keys, signer, sessions)
        app = _web_application(config.http, metrics, engine.health, admission)
        public_path = config.http.public_path
        addresses = addresses_of(config.http, signer, "" if config.s3 is None else config.s3.download_origin)
        webhooks = await _start_webhooks(stack, config, engine, store, endpoints, signer)
        stats = _stats(engine, converter, store, tally)
        operations = OperationHandlers(health=engine.health, stats=stats, metrics=metrics, public_path=public_path)
        add_routes(app.router, admission, handlers(engine, keys, endpoints, addresses, sending, operations))
        if config.http.page:
            page(engine, keys, endpoints, addresses, sessions, public_path).add_routes(app.router, admission)
        yield Service(
            config=config,
            app=app,
            queue=engine.queue,
            runs=engine.runs,
            workers=engine.workers,
            health=engine.health,
            sender=sending.tracks,
            listeners=sending.sound,
            streams=sending.events,
            upstream=engine.upstream,
            converter=converter,
            keys=keys,
            store=store,
            webhooks=webhooks,
            connections=limit_of_process(config.http.trusted_proxies, places_of(config.engine.workers), metrics),
        )


def hide_process() -> None:
    """Close `/proc/PID` of this process, with its environment and memory, to other processes of the same user."""
    Kernel().hide_memory()


def read_keys(path: Path | None) -> tuple[ApiKey, ...] | None:
    """Read API_KEYS_FILE; None if there is none. Called at the start, and again for each SIGHUP.

    Raises:
        ConfigError: the file cannot be read, a line of it is wrong, or every user may write it.
    """
    if path is None:
        return None
    try:
        return read_keys_file(path)
    except KeyFileError as error:
        raise ConfigError([f"API_KEYS_FILE: {path}: {error}"]) from error


def read_identities(config: Config) -> tuple[Identity, ...]:
    """Return the identities: those of IDENTITIES_FILE, or the one of the other settings. Called for each SIGHUP too.

    Raises:
        ConfigError: the file cannot be read, a line of it is wrong, or every user may write it.
    """
    if config.identities_file is None:
        return (only_identity(config.tools),)
    try:
        return read_identities_file(config.identities_file)
    except IdentitiesFileError as error:
        raise ConfigError([f"IDENTITIES_FILE: {config.identities_file}: {error}"]) from error


def budgets_of(identities: Sequence[Identity]) -> list[Budget]:
    """Return what the engine knows of the identities."""
    return [Budget(name=each.name, videos_per_hour=each.videos_per_hour) for each in identities]


def read_endpoints(config: Config) -> tuple[Endpoint, ...]:
    """Read WEBHOOKS_FILE. Called at the start, and again for each SIGHUP.

    Raises:
        ConfigError: the file cannot be read, or a line of it is wrong.
    """
    try:
        return read_endpoints_file(config.webhooks)
    except EndpointsFileError as error:
        raise ConfigError([f"WEBHOOKS_FILE: {config.webhooks.file}: {error}"]) from error


def note_address(config: Config, url: str) -> None:
    """Record where this instance serves, for a second start on the same embedded store. Empty `url`: it is stopping."""
    if config.redis is None:
        with contextlib.suppress(OSError):
            note_holder(config.store_file, url)


async def _open_shelf(config: Config, metrics: Metrics) -> Shelf:
    """Open the shelf. An object store need not answer yet: the instance is not ready until it does."""
    if config.s3 is not None:
        # The import takes 7 MB, so it happens only if a bucket is used.
        from ytmp3.storage.s3 import S3Shelf  # noqa: PLC0415

        remote = S3Shelf(config.s3, on_damaged=metrics.on_damaged_track, on_request=metrics.on_object_store_request)
        try:
            await remote.open()
        except ShelfDown as error:
            raise ConfigError([f"STORAGE_URL: {error.strerror}"]) from error
        return remote
    local = LocalShelf(
        config.data_dir / "tracks",
        accel_redirect_prefix=config.http.accel_redirect_prefix,
        on_damaged=metrics.on_damaged_track,
    )
    try:
        # Before the scratch folder: this creates the data folder with access for other users, which nginx needs.
        await local.open()
    except OSError as error:
        raise _unusable_folder(config.data_dir, error) from error
    return local


def _new_instance(config: Config) -> InstanceId:
    place = f"{platform.node()} {config.host} {config.port}"
    return new_instance_id(place, secrets.token_bytes(INSTANCE_CHARACTERS))


async def _open_scratch(data_dir: Path, scratch: Scratch) -> None:
    try:
        await scratch.open()
    except OSError as error:
        raise _unusable_folder(data_dir, error) from error


def _unusable_folder(data_dir: Path, error: OSError) -> ConfigError:
    return ConfigError([f"DATA_DIR: {error.filename or data_dir}: {_reason(error)}"])


async def _open_converter(converter: Converter) -> None:
    try:
        await converter.open()
    except SandboxIncompleteError as error:
        raise ConfigError([f"SANDBOX: required, but {error}"]) from error


def _reason(error: Exception) -> str:
    """Return the text of an error, without the number and the file name that the text of an OSError contains."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


async def _open_store(config: Config, instance: InstanceId) -> JobStore:
    """Open the job store.

    The embedded store must be usable at once. If Redis is down or wrongly configured, the error is only logged, because
    it can be corrected while this instance runs. The instance is not ready until Redis replies.
    """
    if config.redis is None:
        embedded = SqliteJobStore(config.store_file, config.store, instance)
        await embedded.open()
        return embedded
    # The import takes 20 MB and 100 ms, so it happens only if Redis is used.
    from ytmp3.jobstore.redis import RedisJobStore  # noqa: PLC0415

    shared = RedisJobStore(config.redis, config.store, instance)
    try:
        await shared.open()
    except (StoreDown, StoreUnusable) as error:
        log.error("job store", extra={"ok": False, "detail": str(error)})
    return shared


def _sending(settings: HttpSettings, shelf: Shelf, health: Health, metrics: Metrics) -> Sending:
    return Sending(
        tracks=Sender(
            shelf=shelf,
            client_max_downloads=settings.client_max_downloads,
            count_bytes=metrics.downloaded_bytes.inc,
        ),
        sound=Listeners(count_bytes=metrics.downloaded_bytes.inc, count_end=metrics.on_listened),
        events=EventStreams(
            max_streams=settings.max_streams,
            client_max_streams=settings.client_max_streams,
            is_draining=lambda: health.is_draining,
        ),
    )


async def _shared_secret(config: Config) -> bytes | None:
    """Return the secret that signs links and sessions; None if no keys are used.

    Instances share it as LINK_SECRET, or in DATA_DIR.
    """
    if config.api_keys_file is None or not (config.http.download_link_seconds or config.http.page):
        return None
    if config.link_secret:
        return hashlib.sha256(config.link_secret.encode()).digest()
    path = config.data_dir / "link-secret"
    try:
        return await asyncio.to_thread(shared_secret, path, secrets.token_bytes(SECRET_BYTES))
    except (OSError, ValueError) as error:
        raise ConfigError([f"DATA_DIR: {path}: {_reason(error)}"]) from error


def _admission(settings: HttpSettings, keys: Keys, signer: LinkSigner | None, sessions: Sessions | None) -> Admission:
    return Admission(
        keys=keys,
        limits=RateLimits(settings.rate_limits),
        trusted_proxies=settings.trusted_proxies,
        chance=random.random,
        link_end=lambda request: link_end(request, signer),
        session_key=lambda request: None if sessions is None else sessions.key_of(request),
    )


def _web_application(settings: HttpSettings, metrics: Metrics, health: Health, admission: Admission) -> web.Application:
    """Return the application without its routes."""
    middleware = RequestMiddleware(
        metrics,
        cors_origins=settings.cors_origins,
        access_level=logging.INFO if settings.access_log else logging.DEBUG,
        is_draining=lambda: health.is_draining,
        rate_limit_fields=admission.rate_limit_fields,
        charge_unknown=admission.charge_unknown,
    )
    app = web.Application(middlewares=[middleware.handle], client_max_size=0)
    app.on_response_prepare.append(middleware.add_headers)
    return app


async def _start_webhooks(
    stack: AsyncExitStack,
    config: Config,
    engine: Engine,
    store: JobStore,
    endpoints: Endpoints,
    signer: LinkSigner | None,
) -> WebhookSender:
    """Start the sender of webhook messages. The stack ends it."""
    # URLs in messages are absolute, because a receiver does not know the address of the service.
    addresses = Addresses(public_path=config.http.public_url, signer=signer)
    of_job, of_batch = JobMessages(store, addresses), BatchMessages(engine.batches, store, addresses)
    sender = WebhookSender(
        outbox=store.outbox,
        endpoints=endpoints,
        messages={
            WebhookEvent.JOB_COMPLETED: of_job,
            WebhookEvent.JOB_FAILED: of_job,
            WebhookEvent.BATCH_COMPLETED: of_batch,
        },
        transport=await stack.enter_async_context(HttpTransport(config.webhooks.private_hosts)),
        events=engine.events,
    )
    sender.start()
    stack.push_async_callback(sender.close)
    return sender


def _stats(engine: Engine, converter: Converter, store: JobStore, tally: Tally) -> Stats:
    return Stats(
        store=store,
        queue=engine.queue,
        runs=engine.runs,
        upstream=engine.upstream,
        estimates=engine.estimates,
        health=engine.health,
        converter=converter,
        settings=engine.settings,
        tally=tally,
        started_at=time.monotonic(),
        versions=versions(),
    )
