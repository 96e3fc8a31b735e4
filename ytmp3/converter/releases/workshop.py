"""Fetches and tries releases, each step in a sandboxed child process. Used by `ytmp3 extractor`, and by `updater`.

The child that fetches has the network, but no program, and no file besides its own folder. The child that tries a
release has no network. Both have limits on time, CPU time, memory and file sizes, so a release that hangs, or takes all
memory, ends only its child.
"""

import asyncio
import contextlib
import functools
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import json

from ytmp3.converter.check import solver_check
from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.profiles import DNS_PORT, HTTPS_PORT, LIBRARIES, NAME_RESOLUTION, python_folders, youtube_profile
from ytmp3.converter.releases.index import MAX_WHEEL_BYTES
from ytmp3.converter.releases.messages import (
    Ask,
    Failed,
    Fetch,
    Fetched,
    Inspect,
    Inspected,
    Offered,
    Outcome,
    Task,
    decode_outcome,
)
from ytmp3.converter.releases.program import with_packages
from ytmp3.converter.releases.store import DamagedError, Manifest, ReleaseStore, UnreadableError
from ytmp3.converter.sandbox.program import ZygoteProgram
from ytmp3.converter.sandbox.protocol import Profile, ResourceLimits
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError
from ytmp3.converter.settings import ToolSettings
from ytmp3.converter.tools import deno_path, youtube_program
from ytmp3.converter.youtube.child_run import FILE_BYTES, run_child
from ytmp3.converter.youtube.events import Preload, Versions
from ytmp3.converter.youtube.fetch import DATA_BYTES
from ytmp3.core.errors import Ytmp3Error
from ytmp3.core.release import normalized
from ytmp3.core.rollout import Offer

FETCH_SECONDS: Final = 300.0
"""Longest time for both downloads (3.3 MB), in seconds."""
FETCH_BYTES: Final = 2**29
"""Private memory of the child that fetches, in bytes. It holds a page of the index, or a wheel and one of its files."""
INSPECT_SECONDS: Final = 120.0
"""Longest time for the trial without a network, in seconds. It takes 2 s on an idle machine."""
START_SECONDS: Final = 60.0
"""Longest time until the zygote with the release is ready, in seconds. In the server it has less (`spawner`)."""

_OTHER_QUESTION: Final = "the child process has answered another question"

_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy")
_AUTHORITIES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables of the command's environment that Python's HTTP client and OpenSSL follow."""


class FetchError(Ytmp3Error):
    """A release cannot be fetched. The text says why."""


class CannotTryError(Ytmp3Error):
    """The trial of a release has not ended, as on a machine without memory. The release need not be the cause."""


class Workshop:
    """Fetches releases into the store, and tries those that are there."""

    def __init__(
        self,
        settings: ToolSettings,
        store: ReleaseStore,
        environment: Mapping[str, str],
        *,
        inspect_seconds: float = INSPECT_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._settings = settings
        self._store = store
        self._environment = environment
        self._inspect_seconds = inspect_seconds
        self._start_seconds = start_seconds

    async def fetch(self, wanted: str) -> Manifest:
        """Download a release, a version or STABLE or NIGHTLY, and add it to the store, which must be `changing`.

        Raises:
            FetchError: the text says why.
            OSError: the folder of releases cannot be written.
        """
        index = self._index()
        folder = await asyncio.to_thread(self._store.incoming)
        task = Fetch(index=index, wanted=wanted, folder=str(folder))
        outcome = await self._run(task, self._of_network(index, str(folder)), seconds=FETCH_SECONDS)
        if isinstance(outcome, Failed):
            raise FetchError(outcome.reason)
        if not isinstance(outcome, Fetched):
            raise FetchError(_OTHER_QUESTION)
        add = functools.partial(
            self._store.add, folder, yt_dlp=outcome.yt_dlp, yt_dlp_ejs=outcome.yt_dlp_ejs, wheels=outcome.wheels
        )
        try:
            return await asyncio.to_thread(add)
        except DamagedError as error:
            raise FetchError(str(error)) from None

    async def offers(self) -> tuple[Offer, ...]:
        """Ask the index which releases it offers.

        Raises:
            FetchError: the text says why.
        """
        index = self._index()
        outcome = await self._run(Ask(index=index), self._of_network(index), seconds=FETCH_SECONDS)
        if isinstance(outcome, Failed):
            raise FetchError(outcome.reason)
        if not isinstance(outcome, Offered):
            raise FetchError(_OTHER_QUESTION)
        # The child is not trusted: only versions in their usual form become names of folders.
        return tuple(offer for offer in outcome.offers if normalized(offer.version) == offer.version)

    def _index(self) -> str:
        """Return the URL of the index. Raises FetchError."""
        index = self._settings.package_index
        if index is None:
            raise FetchError("YTDLP_INDEX is not set: it names the package index to fetch from")
        return index

    def _of_network(self, index: str, *writable: str) -> ResourceLimits:
        """Return the limits of a child that asks the index, and may write these folders."""
        return ResourceLimits(
            file_bytes=MAX_WHEEL_BYTES,
            cpu_seconds=int(FETCH_SECONDS),
            data_bytes=FETCH_BYTES,
            network=True,
            profile=Profile(
                readable=(*LIBRARIES, *NAME_RESOLUTION, *python_folders(), *self._of(_AUTHORITIES)),
                writable=writable,
                devices=("/dev/null",),
                ports=_ports(index, *self._of(_PROXIES)),
            ),
        )

    async def problems(self, version: str) -> list[str]:
        """Try a release of the store, and return why it cannot be used; empty: it can."""
        try:
            return await self.faults(version)
        except CannotTryError as error:
            return [str(error)]

    async def faults(self, version: str) -> list[str]:
        """Try a release of the store, and return its own faults; empty: it can be used.

        Raises:
            CannotTryError: the trial has not ended. A hung or crashing release causes that, and so does the machine.
        """
        try:
            manifest = await asyncio.to_thread(self._store.verify, version)
        except UnreadableError as error:
            raise CannotTryError(str(error)) from None
        except DamagedError as error:
            return [str(error)]
        try:
            # Its code is loaded for the first time in the child that reaches nothing; then as the service loads it.
            return await self._inspected(version) or await self._started(manifest)
        except (ZygoteError, OSError) as error:
            raise CannotTryError(str(error)) from None

    async def _inspected(self, version: str) -> list[str]:
        packages = self._store.packages(version)
        deno = await asyncio.to_thread(deno_path)
        async with scratch_folder("ytmp3-release-") as folder:
            scratch = str(folder)
            usual = await asyncio.to_thread(youtube_profile, self._settings, deno=deno, packages=packages)
            limits = ResourceLimits(
                file_bytes=FILE_BYTES,
                cpu_seconds=int(2 * self._inspect_seconds) + 1,
                data_bytes=DATA_BYTES,
                socket_pairs=True,
                profile=msgspec.structs.replace(usual, writable=(scratch,), ports=()),
            )
            preload = json.decode(youtube_program(self._settings, deno=deno).preload, type=Preload)
            preload = msgspec.structs.replace(preload, egress_proxy=None, egress_ca_file=None)
            task = Inspect(packages=str(packages), preload=preload, scratch=scratch)
            match outcome := await self._run(task, limits, seconds=self._inspect_seconds):
                case Inspected():
                    return list(outcome.problems)
                case Failed():
                    raise CannotTryError(outcome.reason)
                case Fetched() | Offered():
                    return [_OTHER_QUESTION]

    async def _started(self, manifest: Manifest) -> list[str]:
        """Start a zygote with the release, as the service does, and compare what it has loaded."""
        deno = await asyncio.to_thread(deno_path)
        program = with_packages(youtube_program(self._settings, deno=deno), self._store.packages(manifest.yt_dlp))
        spawner = Spawner(program, start_seconds=self._start_seconds)
        try:
            versions = json.decode((await spawner.ready()).preloaded, type=Versions)
        finally:
            await to_its_end(spawner.close())
        problems = []
        # The package of a nightly build says 2026.10.26.220202, where the index says 2026.10.26.220202.dev0.
        if normalized(versions.yt_dlp) not in {manifest.yt_dlp, manifest.yt_dlp.removesuffix(".dev0")}:
            problems.append(f"it says that it is {versions.yt_dlp}")
        if versions.yt_dlp_ejs != manifest.yt_dlp_ejs:
            problems.append(f"its yt-dlp-ejs is {versions.yt_dlp_ejs}, and not {manifest.yt_dlp_ejs}")
        solver = solver_check(versions)
        if not solver.ok:
            problems.append(f"yt-dlp-ejs {solver.version}: {solver.detail}")
        if deno is not None and versions.deno is None:
            problems.append("it cannot start deno")
        return problems

    async def _run(self, task: Task, limits: ResourceLimits, *, seconds: float) -> Outcome:
        """Run a task in a child process. Raises ZygoteError."""
        outcomes: list[Outcome] = []

        def on_line(line: bytes) -> None:
            try:
                outcomes.append(decode_outcome(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                return

        spawner = Spawner(_program(self._environment))
        try:
            has_ended = await run_child(spawner, json.encode(task), limits, on_line, seconds=seconds)
        except ZygoteError as error:
            if isinstance(task, Fetch | Ask):
                raise FetchError(str(error)) from None
            raise
        finally:
            await to_its_end(spawner.close())
        if outcomes:
            return outcomes[-1]
        return Failed(
            reason="the child process has ended without a report: it crashed, or exceeded its limits"
            if has_ended
            else f"no end within {seconds:g} s"
        )

    def _of(self, names: tuple[str, ...]) -> list[str]:
        return [self._environment[name] for name in names if self._environment.get(name)]


@contextlib.asynccontextmanager
async def scratch_folder(prefix: str) -> AsyncIterator[Path]:
    """Make a folder for one child, and remove it afterwards. Files are used in threads."""
    make = functools.partial(tempfile.TemporaryDirectory, prefix=prefix, ignore_cleanup_errors=True)
    folder = await asyncio.to_thread(make)
    try:
        yield Path(folder.name)
    finally:
        await to_its_end(asyncio.to_thread(folder.cleanup))


def _program(environment: Mapping[str, str]) -> ZygoteProgram:
    passed = {name: environment[name] for name in (*_PROXIES, *_AUTHORITIES) if name in environment}
    return ZygoteProgram(
        arguments=("-m", "ytmp3.converter.releases"),
        path=tuple(sys.path),
        environment={"YTDLP_NO_PLUGINS": "1", **passed},
        preload=b"{}",
    )


def _ports(*urls: str) -> tuple[int, ...]:
    """Return the ports to which the child that fetches may connect: name servers, HTTPS, and those of these URLs."""
    ports = {DNS_PORT, HTTPS_PORT}
    for url in urls:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            ports.add(parts.port or (HTTPS_PORT if parts.scheme == "https" else 80))
        except ValueError:
            continue  # NO_PROXY is a list of hosts
    return tuple(sorted(ports))
