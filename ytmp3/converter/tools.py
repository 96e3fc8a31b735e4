"""What all conversions with one zygote share; and where its programs are, which is looked up once, at the start."""

import contextlib
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import imageio_ffmpeg
from msgspec import Struct, json

from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.identities import IdentityBook
from ytmp3.converter.profiles import Profiles
from ytmp3.converter.sandbox.program import ZygoteProgram
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.settings import Identity, ToolSettings
from ytmp3.converter.solver.service import Solver
from ytmp3.converter.tokens import TokenProvider
from ytmp3.converter.youtube.events import Preload
from ytmp3.converter.youtube.fetch import Connections
from ytmp3.converter.youtube.ladder import DEFAULT, LIGHT, WITH_TOKEN, Ladder, Rung
from ytmp3.threads import Threads

FILE_THREADS: Final = 16
"""Threads for short calls of files in the scratch folders, for all conversions together."""

VERIFIERS: Final = 4
"""Threads that verify tracks. They share the interpreter's lock, so more would not be faster."""


Ladders = Mapping[tuple[bool, bool], Ladder]
"""The ways of asking YouTube with or without cookies, and with or without PO tokens."""


class Tools(Struct, frozen=True, kw_only=True):
    """What all conversions with one zygote share."""

    spawner: Spawner
    solver: Solver
    tokens: TokenProvider
    ffmpeg: str
    cores: Cores
    identities: IdentityBook
    profiles: Profiles
    ladders: Ladders
    files: Threads
    """For short calls of files."""
    verifiers: Threads
    long_tracks: Counter[str]
    """How often long tracks were encoded in each way (`long_track.LongEncoding`), with all zygotes together."""

    @contextlib.asynccontextmanager
    async def connections(self, identity: Identity) -> AsyncIterator[Connections]:
        """Open the connections of one youtube child to the server, until the block ends."""
        egress = identity.egress if identity.has_po_tokens else None
        async with self.solver.connection() as solver, self.tokens.connection(egress) as tokens:
            seconds = None if tokens is None else self.tokens.child_seconds
            yield Connections(solver=solver, tokens=tokens, token_seconds=seconds)


def ffmpeg_path(settings: ToolSettings) -> str:
    """Return the path of ffmpeg. If the file is missing, the health check and every conversion fail and say so."""
    if settings.ffmpeg_path is not None:
        return str(settings.ffmpeg_path)
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        return "/nonexistent/ffmpeg"


def deno_path() -> str | None:
    """Return the binary of the deno package, which pip installs next to the interpreter's scripts; None if missing."""
    path = Path(sysconfig.get_path("scripts"), "deno")
    return str(path) if path.exists() else None


def youtube_program(settings: ToolSettings, *, deno: str | None) -> ZygoteProgram:
    """Return the program of the zygote: this interpreter, with yt-dlp from the server's own packages."""
    preload = Preload(
        egress_proxy=settings.egress_proxy,
        egress_ca_file=None if settings.egress_ca_file is None else str(settings.egress_ca_file),
        deno_path=deno,
        egress_family=settings.egress_family,
        egress_source_address=settings.egress_source_address,
        extractor_args=dict(settings.extractor_args),
    )
    return ZygoteProgram(
        arguments=("-m", "ytmp3.converter.youtube"),
        path=tuple(sys.path),
        environment={"YTDLP_NO_PLUGINS": "1"},
        preload=json.encode(preload),
    )


def ladders_of(settings: ToolSettings) -> Ladders:
    """Return the ladders, each with a record of its own."""
    return {
        (cookies, tokens): Ladder(rungs(settings, has_cookies=cookies, has_po_tokens=tokens), time.monotonic)
        for cookies in (False, True)
        for tokens in (False, True)
    }


def rungs(settings: ToolSettings, *, has_cookies: bool, has_po_tokens: bool) -> tuple[Rung, ...]:
    """Return the groups of player clients to ask, in order.

    A choice of clients in the extractor's arguments wins. With cookies, yt-dlp chooses: the clients that need no
    JavaScript take no cookies.
    """
    chosen = settings.extractor_args.get("player_client")
    if chosen:
        return (Rung(clients=tuple(chosen)),)
    if settings.clients:
        return tuple(Rung(clients=group) for group in settings.clients)
    usual = (DEFAULT,) if has_cookies else (LIGHT, DEFAULT)
    return (*usual, WITH_TOKEN) if has_po_tokens and settings.pot_provider_url is not None else usual
