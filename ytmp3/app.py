"""The composition root: build in order, serve, drain, take down in reverse. The only room that knows every adapter."""

import logging
import platform
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from prometheus_client import ProcessCollector

from ytmp3 import __version__
from ytmp3.config import Config
from ytmp3.converter import Converter
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.settings import ConversionLimits, ToolSettings
from ytmp3.core.client import ApiKey
from ytmp3.core.errors import StoreDown, StoreUnusable
from ytmp3.core.ids import InstanceId
from ytmp3.core.states import CRASH_LIMIT
from ytmp3.engine.health import Health, Readiness
from ytmp3.engine.intake import Intake
from ytmp3.engine.janitor import Janitor
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.workers import Pool
from ytmp3.http.admission import Gate, Limits
from ytmp3.http.api import Api, Rooms
from ytmp3.http.download import Sender
from ytmp3.http.keys import Keys, parse_keys
from ytmp3.http.middleware import Frame
from ytmp3.http.stats import Stats, resident_bytes
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.metrics import Metrics
from ytmp3.storage.local import LocalStorage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running instance, as `serve` and the tests see it."""

    config: Config
    app: web.Application
    pool: Pool
    health: Health
    sender: Sender
    keys: Keys
    store: JobStore


MakeConverter = Callable[[ToolSettings, ConversionLimits, Path], Converter]


@asynccontextmanager
async def running(config: Config, make_converter: MakeConverter = Pipeline) -> AsyncIterator[Service]:
    """Build every room, start it, and take it down in reverse.

    Raises:
        StoreUnusable: the embedded store's file must not be used; nothing was changed.
        KeyFileError, OSError: a file or folder cannot be used.
    """
    async with AsyncExitStack() as stack:
        instance = InstanceId(secrets.token_hex(8))
        metrics = Metrics()
        health = Health()
        keys = Keys(read_keys(config.api_keys_file))
        storage = LocalStorage(config.data_dir, instance=instance)
        await storage.open()
        stack.push_async_callback(storage.close)
        store = await _open_store(config, instance)
        stack.push_async_callback(store.close)
        converter = make_converter(
            _tool_settings(config), _conversion_limits(config), await storage.new_scratch("tools")
        )
        await converter.open()
        stack.push_async_callback(converter.close)
        pool = Pool(
            EngineSettings(
                workers=config.worker_pool_size,
                queue_capacity=config.job_queue_capacity,
                max_retries=config.max_job_retries,
                client_max_jobs=config.client_max_jobs,
            ),
            store=store,
            storage=storage,
            converter=converter,
            metrics=metrics,
            chance=random.random,
        )
        pool.start()
        stack.push_async_callback(pool.close)
        janitor = Janitor(store=store, storage=storage, converter=converter, pool=pool, health=health, metrics=metrics)
        janitor.start()
        stack.push_async_callback(janitor.close)
        sender = Sender(
            accel_prefix=config.accel_redirect_prefix,
            client_max_downloads=config.client_max_downloads,
            path_of=storage.path,
            count_bytes=metrics.downloaded_bytes.inc,
        )
        _register_gauges(metrics, pool, health)
        rooms = Rooms(
            intake=Intake(
                store=store,
                storage=storage,
                pool=pool,
                health=health,
                metrics=metrics,
            ),
            pool=pool,
            health=health,
            stats=Stats(
                store=store,
                pool=pool,
                health=health,
                metrics=metrics,
                started_at=time.monotonic(),
                versions=_versions(),
            ),
            metrics=metrics,
            sender=sender,
            keys=keys,
        )
        yield Service(
            config=config,
            app=_build_app(config, rooms, metrics, health),
            pool=pool,
            health=health,
            sender=sender,
            keys=keys,
            store=store,
        )


def read_keys(path: Path | None) -> tuple[ApiKey, ...] | None:
    """Read the keys file.

    Raises:
        KeyFileError, OSError
    """
    return None if path is None else parse_keys(path.read_text(encoding="utf-8"))


async def _open_store(config: Config, instance: InstanceId) -> JobStore:
    """Open the embedded store, or the shared one; a shared one that is absent or unfit may come right by itself."""
    policy = Policy(
        lease_seconds=config.lease_seconds,
        retention_seconds=config.job_expiration_hours * 3600,
        crash_limit=CRASH_LIMIT,
    )
    if not config.redis_addr:
        embedded = SqliteJobStore(config.data_dir / "ytmp3.sqlite3", policy, instance)
        await embedded.open()
        return embedded
    # Imported only where it is used: 20 MB and 100 ms.
    from ytmp3.jobstore.redis import RedisJobStore, RedisSettings  # noqa: PLC0415

    shared = RedisJobStore(
        RedisSettings(address=config.redis_addr, password=config.redis_password, db=config.redis_db),
        policy,
        instance,
    )
    try:
        await shared.open()
    except (StoreDown, StoreUnusable) as error:
        log.error("job store", extra={"ok": False, "detail": str(error)})
    return shared


def _tool_settings(config: Config) -> ToolSettings:
    return ToolSettings(
        ffmpeg_path=config.ffmpeg_path,
        egress_proxy=config.egress_proxy or None,
        egress_ca_file=config.egress_ca_file,
        cookies_file=config.cookies_file,
        extract_concurrency=config.extract_concurrency,
        encode_concurrency=config.encode_concurrency,
    )


def _conversion_limits(config: Config) -> ConversionLimits:
    return ConversionLimits(
        max_duration_seconds=config.max_duration_seconds,
        max_file_bytes=config.max_file_mb * 1_000_000,
        extract_seconds=config.extract_seconds,
        download_seconds=config.download_seconds,
        encode_seconds=config.encode_seconds,
        idle_seconds=config.idle_seconds,
    )


def _build_app(config: Config, rooms: Rooms, metrics: Metrics, health: Health) -> web.Application:
    gate = Gate(
        keys=rooms.keys,
        limits=Limits(
            rate_per_second=config.requests_per_second,
            burst=config.burst_size,
            client_rate_per_second=config.client_requests_per_second,
            client_burst=config.client_burst_size,
        ),
        trusted_proxies=config.trusted_proxies,
        chance=random.random,
    )
    frame = Frame(
        metrics,
        cors_origins=config.cors_origins,
        is_draining=lambda: health.is_draining,
        standing=gate.standing,
    )
    app = web.Application(middlewares=[frame.middleware], client_max_size=0)
    app.on_response_prepare.append(frame.complete)
    Api(rooms).add_routes(app.router, gate)
    return app


def _register_gauges(metrics: Metrics, pool: Pool, health: Health) -> None:
    started_at = time.monotonic()
    ProcessCollector(registry=metrics.registry)
    metrics.build.info(_versions())
    for name, text, read in (
        ("ytmp3_conversions_active", "Conversions running in this instance.", lambda: pool.active),
        ("ytmp3_workers", "Workers of this instance.", lambda: pool.settings.workers),
        ("ytmp3_queue_length", "Conversions waiting in this instance.", pool.queue.qsize),
        ("ytmp3_queue_capacity", "How many may wait.", lambda: pool.settings.queue_capacity),
        ("ytmp3_ready", "1 if this instance would take a new job.", lambda: health.readiness is Readiness.OK),
        ("ytmp3_draining", "1 while this instance shuts down.", lambda: health.is_draining),
        ("ytmp3_store_up", "1 if the job store answers and is fit.", lambda: health.store.ok),
        ("ytmp3_upstream_blocked", "1 while YouTube is not asked.", lambda: bool(pool.blocked_seconds())),
        ("ytmp3_uptime_seconds", "Time since start.", lambda: time.monotonic() - started_at),
        ("ytmp3_memory_resident_bytes", "Resident memory of the server process.", resident_bytes),
        ("ytmp3_storage_total_bytes", "Size of the disk.", lambda: health.space.total_bytes if health.space else 0),
        ("ytmp3_storage_free_bytes", "Free space.", lambda: health.space.free_bytes if health.space else 0),
        ("ytmp3_storage_reserve_bytes", "Kept free.", lambda: health.space.reserve_bytes if health.space else 0),
    ):
        metrics.gauge(name, text, read)


def _versions() -> dict[str, str]:
    return {"ytmp3": __version__, "python": platform.python_version()}
