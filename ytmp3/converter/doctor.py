"""`ytmp3 doctor`: tries each egress route to YouTube and each player client once, through the processes of conversions.

It starts a zygote, a solver and children as the service does, with the same settings and the same sandbox, and can run
beside the service. It asks YouTube for one video with each client, one after the other, so it takes as many places of
the address's hourly budget as there are clients, and counts them. `doctor_report` judges the result and puts it into
words.
"""

import contextlib
import datetime as dt
import math
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from msgspec import Struct, json

from ytmp3 import __version__
from ytmp3.converter import ToolCheck
from ytmp3.converter.check import Checker, Programs
from ytmp3.converter.cookies import Cookies
from ytmp3.converter.identities import only_identity
from ytmp3.converter.profiles import youtube_profile
from ytmp3.converter.releases.program import program_in_use
from ytmp3.converter.sandbox.protocol import Profile
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError
from ytmp3.converter.settings import ConversionLimits, Egress, Identity, ToolSettings
from ytmp3.converter.solver.service import Solver
from ytmp3.converter.tokens import TokenProvider
from ytmp3.converter.tools import deno_path, ffmpeg_path, rungs
from ytmp3.converter.youtube.events import Extraction, Probed, ProbeTask, Versions
from ytmp3.converter.youtube.fetch import Connections
from ytmp3.converter.youtube.ladder import Rung, single_clients
from ytmp3.converter.youtube.prober import probe
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.ids import VideoId
from ytmp3.core.release import age_days

SAMPLES_SECONDS: Final = 30.0
"""Time, in seconds, for both samples of a client, in addition to the time for the extraction."""
LATER_SECONDS: Final = 75.0
"""Place of the second sample in the track, in seconds: safely beyond the first minute, for which YouTube has served
clients that it was about to refuse."""


class WayOut(Struct, frozen=True, kw_only=True):
    """One egress route to YouTube: a name without secrets, and its settings."""

    name: str
    identity: str
    """The name of the identity, whose budget it uses."""
    settings: ToolSettings

    @property
    def description(self) -> str:
        """Return the way in words, without addresses and passwords, for a report that is shown to others."""
        own = self.settings
        proxy = urlsplit(own.egress_proxy or "").scheme
        parts = [f"through a proxy ({proxy})" if proxy else "direct", f"IP version {own.egress_family}"]
        if own.egress_source_address is not None:
            parts.append("with a source address")
        parts.append("with cookies" if own.cookies_file is not None else "without cookies")
        if own.pot_provider_url is not None:
            parts.append("with PO tokens")
        return ", ".join(parts)


class Asked(Struct, frozen=True, kw_only=True):
    """One player client, and what it has served."""

    client: str
    """yt-dlp's name of the client."""
    group: int
    """Number of its group in YOUTUBE_CLIENTS, from 0 on: a conversion asks one group after the other."""
    found: Probed


class WayTried(Struct, frozen=True, kw_only=True):
    """One egress route, with all clients."""

    name: str
    description: str
    clients: tuple[Asked, ...]


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a report says of the installation and the machine."""

    ytmp3: str
    python: str
    system: str
    """The kernel and the processor."""
    time: str
    """UTC, as in ISO 8601."""
    extractor_age_days: int | None
    """Age of the installed yt-dlp; None if its version is no date."""


class Findings(Struct, frozen=True, kw_only=True):
    """Everything that was found."""

    about: Surroundings
    video_id: VideoId
    tools: tuple[ToolCheck, ...]
    ways: tuple[WayTried, ...]
    budget: str = ""
    """Whether the extractions were counted in the hourly budgets of the service, in words."""


class Counting(Protocol):
    """Counts extractions in the hourly budgets."""

    async def count(self, identity: str) -> None:
        """Count one extraction, which follows. Raises nothing if that is impossible."""

    @property
    def report(self) -> str:
        """What was counted, and if something was not, why."""


def ways_out(settings: ToolSettings, identities: Sequence[Identity] = ()) -> tuple[WayOut, ...]:
    """Return the egress routes: each identity as a guest, and with its cookies if it has some.

    Without identities, it is that of the settings.
    """
    ways = []
    for identity in identities or (only_identity(settings),):
        guest = replace(
            settings,
            egress_proxy=identity.egress.proxy,
            egress_family=identity.egress.family,
            egress_source_address=identity.egress.source_address,
            cookies_file=None,
            pot_provider_url=settings.pot_provider_url if identity.has_po_tokens else None,
        )
        ways.append(WayOut(name=identity.name, identity=identity.name, settings=guest))
        if identity.cookies_file is not None:
            own = replace(guest, cookies_file=identity.cookies_file)
            ways.append(WayOut(name=f"{identity.name} with cookies", identity=identity.name, settings=own))
    return tuple(ways)


class Doctor:
    """One examination. `on_step` is called with what is done next, in words."""

    def __init__(
        self,
        limits: ConversionLimits,
        on_step: Callable[[str], object],
        *,
        counting: Counting | None = None,
        later_seconds: float = LATER_SECONDS,
        samples_seconds: float = SAMPLES_SECONDS,
    ) -> None:
        self._limits = limits
        self._on_step = on_step
        self._counting = counting
        self._later_seconds = later_seconds
        self._samples_seconds = samples_seconds

    async def examine(self, ways: tuple[WayOut, ...], video_id: VideoId) -> Findings:
        """Try all ways. No process and no file is left, also after a cancellation.

        Raises:
            OSError: there is no folder for temporary files.
        """
        tools: tuple[ToolCheck, ...] = ()
        tried = []
        for way in ways:
            async with _stand(way.settings) as stand:
                if not tools:
                    self._on_step("the tools")
                    tools = tuple(await stand.checker.check())
                clients = [asked async for asked in self._clients(way, stand, video_id)]
            tried.append(WayTried(name=way.name, description=way.description, clients=tuple(clients)))
        budget = "" if self._counting is None else self._counting.report
        return Findings(about=_surroundings(tools), video_id=video_id, tools=tools, ways=tuple(tried), budget=budget)

    async def _clients(self, way: WayOut, stand: "_Stand", video_id: VideoId) -> AsyncIterator[Asked]:
        try:
            versions = json.decode((await stand.spawner.ready()).preloaded, type=Versions)
        except ZygoteError:
            return  # The check of the tools has reported it.
        has_cookies = way.settings.cookies_file is not None
        default = versions.default_clients_with_cookies if has_cookies else versions.default_clients
        clients = single_clients(rungs(way.settings, has_cookies=has_cookies, has_po_tokens=True), default)
        for number, (group, client) in enumerate(clients, 1):
            self._on_step(f"egress route {way.name}: client {client} ({number} of {len(clients)})")
            if self._counting is not None:
                await self._counting.count(way.identity)
            yield Asked(client=client, group=group, found=await self._ask(way, stand, video_id, client))

    async def _ask(self, way: WayOut, stand: "_Stand", video_id: VideoId, client: str) -> Probed:
        scratch = Path(tempfile.mkdtemp(dir=stand.folder))
        cookies = way.settings.cookies_file
        try:
            if cookies is not None:
                # yt-dlp writes its cookies back at the end. It gets a copy, whose changes are dropped.
                copy = scratch / "cookies"
                Cookies(cookies, time.monotonic).copy_to(copy)
                cookies = copy
            extraction = Extraction(
                video_id=video_id,
                scratch=str(scratch),
                cookies_file=None if cookies is None else str(cookies),
                max_duration_seconds=self._limits.max_duration_seconds,
                max_file_bytes=self._limits.max_file_bytes,
                rungs=(Rung(clients=(client,)),),
            )
            task = ProbeTask(extraction=extraction, later_seconds=self._later_seconds)
            async with stand.solver.connection() as solver, stand.tokens.connection(stand.egress) as tokens:
                ends = Connections(solver=solver, tokens=tokens, token_seconds=stand.tokens.child_seconds)
                seconds = self._limits.extract_seconds + self._samples_seconds
                return await probe(stand.spawner, task, stand.profile, ends, seconds=seconds)
        except ConversionError as error:
            return Probed(code=error.code, reason=error.reason)
        except ZygoteError as error:
            return Probed(code=FailureCode.TOOL_MISSING, reason=str(error))
        except OSError as error:
            return Probed(code=FailureCode.STORAGE_FULL, reason=f"{error.strerror}")


class _Stand(Struct, frozen=True, kw_only=True):
    """The processes of one egress route, as a conversion uses them."""

    spawner: Spawner
    solver: Solver
    tokens: TokenProvider
    checker: Checker
    profile: Profile
    egress: Egress
    folder: Path


@contextlib.asynccontextmanager
async def _stand(settings: ToolSettings) -> AsyncIterator[_Stand]:
    deno, ffmpeg = deno_path(), ffmpeg_path(settings)
    program, packages = program_in_use(settings, deno=deno)
    with tempfile.TemporaryDirectory(prefix="ytmp3-doctor-", ignore_cleanup_errors=True) as folder:
        spawner = Spawner(program)
        solver = Solver(spawner, deno=deno, folder=Path(folder))
        tokens, programs = TokenProvider(settings), Programs(ffmpeg=ffmpeg, deno=deno)
        try:
            yield _Stand(
                spawner=spawner,
                solver=solver,
                tokens=tokens,
                checker=Checker(
                    spawner,
                    solver,
                    tokens,
                    programs,
                    folder=Path(folder),
                    describe_release=lambda: program.description,
                ),
                profile=youtube_profile(settings, deno=deno, packages=packages),
                egress=only_identity(settings).egress,
                folder=Path(folder),
            )
        finally:
            await tokens.close()
            await solver.close()
            await spawner.close()


def _surroundings(tools: Sequence[ToolCheck]) -> Surroundings:
    now = dt.datetime.now(dt.UTC)
    extractor = next((tool.version for tool in tools if tool.name == "yt-dlp"), None)
    age = age_days(extractor, now.timestamp())
    return Surroundings(
        ytmp3=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        time=now.isoformat(timespec="seconds"),
        extractor_age_days=None if math.isnan(age) else int(age),
    )
