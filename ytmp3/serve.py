"""Runs the server process in three steps: start listening, run until a signal, drain.

SIGTERM or SIGINT starts the drain; a second one ends the drain at once. SIGHUP reloads the files of keys, webhooks
and identities.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web

from ytmp3.app import (
    Service,
    budgets_of,
    hide_process,
    note_address,
    read_endpoints,
    read_identities,
    read_keys,
    running,
)
from ytmp3.config import Config, ConfigError
from ytmp3.http.connection_limit import ACCEPTED_AT_ONCE, MAX_DESCRIPTORS
from ytmp3.http.connections import Runner

log = logging.getLogger(__name__)

BACKLOG: Final = 1024
"""Most connections that the kernel accepts while the event loop is busy; further ones are refused."""
SWITCH_SECONDS: Final = 0.0005
"""Longest time, in seconds, that a thread (verifying an MP3, writing a record) may keep the interpreter lock while the
event loop waits for it. Python's default of 5 ms is the time of five requests, and may be lost at every system call."""
LINGER_SECONDS: Final = 1.0
"""Time, in seconds, between becoming unready and closing the socket, so that a load balancer notices it first."""
SHUTDOWN_SECONDS: Final = 3.0
"""Time, in seconds, for requests that are still open when the socket is closed."""
NOTE_SECONDS: Final = 2.0
"""Longest wait, in seconds, until the address is written to the lock file of the embedded store."""
END_SECONDS: Final = 20.0
"""Longest time, in seconds, from the end of the drain to the end of the process. Ending the child processes takes up to
6 s, and the embedded store may have a long log to move into its file."""
LOG_SECONDS: Final = 0.5
"""Time, in seconds, for writing the last lines of the log before such an end."""
FORCED_STATUS: Final = 1
"""Exit status of a process that ends without a clean-up."""
TRANSFER_POLL_SECONDS: Final = 0.05
"""Interval, in seconds, at which a drain checks whether the last download has ended."""


async def serve(config: Config, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `announce` is called with the address once the socket listens.

    Raises:
        ConfigError: a folder, a file or the address cannot be used.
        StoreUnusable: the embedded store's file must not be used; nothing was changed.
    """
    signals = Signals()
    _prepare_process()
    async with running(config) as service:
        runner = Runner(service.app, shutdown_seconds=SHUTDOWN_SECONDS, limit=service.connections)
        try:
            url = await start(runner, config)
            await _note_address(config, url)
            await asyncio.to_thread(announce, url)
            await run(service, signals)
            await _note_address(config, "")
            await drain(service, signals.forced)
        finally:
            end_in_time(END_SECONDS)
            await runner.cleanup()


async def _note_address(config: Config, url: str) -> None:
    """Record the address; a disk that hangs must not keep the drain."""
    noting = asyncio.create_task(asyncio.to_thread(note_address, config, url), name="note-address")
    await asyncio.wait([noting], timeout=NOTE_SECONDS)


def end_in_time(seconds: float) -> threading.Timer:
    """End this process after `seconds`, even if a thread hangs in a call of the file system.

    Python waits for all threads at its end, and a thread that hangs would keep the process for as long as the disk
    does. When this is called, running conversions have been released, so no work is lost.
    """

    def give_up() -> None:
        log.error("ended without a clean-up: a call of the file system hangs", extra={"seconds": seconds})
        time.sleep(LOG_SECONDS)
        os._exit(FORCED_STATUS)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    return timer


async def start(runner: Runner, config: Config) -> str:
    """Listen on HOST and PORT. Returns the URL.

    Raises:
        ConfigError: the address cannot be used.
    """
    await runner.setup()
    try:
        # asyncio uses this number twice: for the backlog, and for the connections that it accepts at once.
        await web.TCPSite(runner, config.host, config.port, backlog=ACCEPTED_AT_ONCE).start()
    except OSError as error:
        # A positive errno is one of the system. Then asyncio's own text would repeat the address.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ConfigError([f"HOST, PORT: cannot listen on {config.host}:{config.port}: {reason}"]) from error
    runner.set_backlog(BACKLOG)
    # What exists now lives as long as the process. If the garbage collector examined it again in each full collection,
    # all requests would wait for 20 to 30 ms.
    gc.collect()
    gc.freeze()
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Signals:
    """The received signals. This is created before anything is started, so that no signal is missed."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        """Set by the first SIGTERM or SIGINT."""
        self.forced = asyncio.Event()
        """Set by the second one."""
        self.reload = asyncio.Event()
        """Set by SIGHUP, and cleared when the files are reloaded."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)

    def _stop(self) -> None:
        (self.forced if self.stopped.is_set() else self.stopped).set()


async def run(service: Service, signals: Signals) -> None:
    """Wait for the first SIGTERM or SIGINT. Until then, reload the files that may change at each SIGHUP."""

    async def reload() -> None:
        while True:
            await signals.reload.wait()
            signals.reload.clear()
            for reload_file in (reload_keys, reload_endpoints, reload_identities):
                try:
                    await reload_file(service)
                except Exception:
                    # The outermost frame of a loop: later signals must still be obeyed.
                    log.exception("file not reloaded")

    reloading = asyncio.create_task(reload(), name="reload-files")
    try:
        await signals.stopped.wait()
    finally:
        reloading.cancel()
        await asyncio.gather(reloading, return_exceptions=True)


async def drain(service: Service, force: asyncio.Event) -> None:
    """Refuse new work, let running conversions and downloads end, and release the rest to the job store.

    This takes about DRAIN_SECONDS at most, and ends early when `force` is set. Does nothing if a drain has begun.
    """
    if service.health.is_draining:
        return
    service.health.is_draining = True
    # Clients connect again, at first perhaps here: then they get the present state and the end of the stream.
    service.streams.end_all()
    log.info("draining", extra={"running": service.runs.active, "waiting": service.queue.qsize()})
    drain_seconds = service.config.drain_seconds
    deadline = time.monotonic() + drain_seconds
    await asyncio.gather(asyncio.sleep(LINGER_SECONDS), service.workers.drain(drain_seconds, force))
    # Three conditions end this wait, so there is no single event to wait for.
    while service.sender.active and not force.is_set() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(TRANSFER_POLL_SECONDS)


async def reload_keys(service: Service) -> None:
    """Reload the keys file. If it cannot be used, the present keys stay."""
    try:
        keys = await asyncio.to_thread(read_keys, service.config.api_keys_file)
    except ConfigError as error:
        log.error("keys not reloaded", extra={"error": str(error)})
        return
    if keys is not None:
        service.keys.replace(keys)
        log.info("keys reloaded", extra={"keys": len(keys)})


async def reload_endpoints(service: Service) -> None:
    """Reload WEBHOOKS_FILE. If it cannot be used, the present endpoints stay."""
    if service.config.webhooks.file is None:
        return
    try:
        endpoints = await asyncio.to_thread(read_endpoints, service.config)
    except ConfigError as error:
        log.error("webhooks not reloaded", extra={"error": str(error)})
        return
    service.webhooks.replace_endpoints(endpoints)
    log.info("webhooks reloaded", extra={"endpoints": len(endpoints)})


async def reload_identities(service: Service) -> None:
    """Reload IDENTITIES_FILE. If it cannot be used, the present identities stay. Running conversions keep theirs."""
    if service.config.identities_file is None:
        return
    try:
        identities = await asyncio.to_thread(read_identities, service.config)
    except ConfigError as error:
        log.error("identities not reloaded", extra={"error": str(error)})
        return
    service.converter.use_identities(identities)
    service.upstream.identities.use(budgets_of(identities))
    log.info("identities reloaded", extra={"identities": len(identities)})


def _prepare_process() -> None:
    """Set what concerns the whole process.

    New files are for this user only (umask), and `/proc/PID` of this process, with its environment and memory, is
    closed to other processes of the user. The limit of open descriptors is raised from the usual 1,024.
    """
    os.umask(0o077)
    hide_process()
    sys.setswitchinterval(SWITCH_SECONDS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MAX_DESCRIPTORS) if hard > 0 else MAX_DESCRIPTORS, hard))
