"""Start, listen, drain, stop."""

import asyncio
import contextlib
import logging
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web

from ytmp3.app import Service, read_keys, running
from ytmp3.config import Config
from ytmp3.core.errors import Ytmp3Error
from ytmp3.http.connections import Runner

log = logging.getLogger(__name__)

BACKLOG: Final = 1024


SWITCH_SECONDS: Final = 0.0005
"""How long a thread (verifying an MP3, writing a record) may keep the interpreter from the event loop: Python's own
5 ms are five requests' time, and paid again at each system call of the loop."""


LINGER_SECONDS: Final = 1.0
"""Not ready, and still answering: a balancer must have looked once before the socket closes."""


SHUTDOWN_SECONDS: Final = 3.0
"""For the requests still open when the socket has closed."""


async def serve(config: Config, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends the drain at once. `announce` hears the address once bound.

    Raises:
        what `running` raises, and OSError if the address cannot be bound.
    """
    _raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_SECONDS)
    async with running(config) as service:
        runner = Runner(service.app, shutdown_seconds=SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            site = web.TCPSite(runner, config.host, config.port, backlog=BACKLOG)
            await site.start()
            host, port = runner.addresses[0][:2]
            announce(f"http://{host}:{port}")
            await _until_stopped(service)
        finally:
            await runner.cleanup()


async def drain(service: Service, force: asyncio.Event) -> None:
    """Refuse new work, let running conversions end within DRAIN_SECONDS or until `force`, and give back the rest."""
    if service.health.is_draining:
        return
    service.health.is_draining = True
    log.info("draining", extra={"running": service.pool.active, "waiting": service.pool.queue.qsize()})
    drain_seconds = service.config.drain_seconds
    deadline = time.monotonic() + drain_seconds
    await asyncio.gather(asyncio.sleep(LINGER_SECONDS), service.pool.drain(drain_seconds, force))
    while service.sender.active and not force.is_set() and time.monotonic() < deadline:  # noqa: ASYNC110  three ends
        await asyncio.sleep(0.05)


async def _until_stopped(service: Service) -> None:
    loop = asyncio.get_running_loop()
    stopped, forced = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (forced if stopped.is_set() else stopped).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: _reload_keys(service))
    await stopped.wait()
    await drain(service, forced)


def _reload_keys(service: Service) -> None:
    """SIGHUP: take the keys file anew; a broken one changes nothing."""
    try:
        keys = read_keys(service.config.api_keys_file)
    except (Ytmp3Error, OSError, UnicodeDecodeError) as error:
        log.error("keys not reloaded", extra={"error": str(error)})
        return
    if keys is not None:
        service.keys.replace(keys)
        log.info("keys reloaded", extra={"keys": len(keys)})


def _raise_descriptor_limit() -> None:
    """A connection is a descriptor: the usual soft limit of 1,024 is for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
