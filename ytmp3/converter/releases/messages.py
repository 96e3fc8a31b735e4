"""What `workshop` asks of a child process, and what the child reports: one JSON object on its descriptor 3."""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from ytmp3.converter.youtube.events import Preload
from ytmp3.core.rollout import Offer

MAX_LINE_BYTES: Final = 64 * 1024
"""Longest report."""

MAX_OFFERS: Final = 200
"""Most releases in a report: half a year of nightly builds. One takes up to 80 bytes of MAX_LINE_BYTES."""

MAX_TEXT_CHARACTERS: Final = 500
"""Longest text of a problem."""


class Fetch(Struct, frozen=True, kw_only=True, tag=True):
    """Download a release of yt-dlp, and the yt-dlp-ejs that it names, and unpack both."""

    index: str
    """URL of the package index (PEP 503 or 691), without a slash at the end."""
    wanted: str
    """A version, STABLE or NIGHTLY."""
    folder: str
    """An existing folder. `packages` is made in it."""


class Ask(Struct, frozen=True, kw_only=True, tag=True):
    """Ask which releases of yt-dlp the index offers."""

    index: str
    """As in Fetch."""


class Inspect(Struct, frozen=True, kw_only=True, tag=True):
    """Try a release without a network."""

    packages: str
    """Its folder of packages."""
    preload: Preload
    """As for the zygote of the service."""
    scratch: str
    """An empty folder for the programs that it starts."""


Task = Fetch | Ask | Inspect


class Fetched(Struct, frozen=True, kw_only=True, tag=True):
    """Both packages are unpacked."""

    yt_dlp: str
    yt_dlp_ejs: str
    wheels: Mapping[str, str]
    """SHA-256 by file name."""


class Offered(Struct, frozen=True, kw_only=True, tag=True):
    """The index was asked."""

    offers: tuple[Offer, ...]
    """The newest releases, MAX_OFFERS at most, without withdrawn ones."""


class Inspected(Struct, frozen=True, kw_only=True, tag=True):
    """The release was tried."""

    problems: tuple[str, ...]
    """Why it cannot be used; empty: it can."""


class Failed(Struct, frozen=True, kw_only=True, tag=True):
    """The task could not be done."""

    reason: str


Outcome = Fetched | Offered | Inspected | Failed

decode_task = msgspec.json.Decoder(Task).decode
decode_outcome = msgspec.json.Decoder(Outcome).decode


def shown(text: str) -> str:
    """Return a text as it may be printed: one line, bounded, without control characters."""
    line = " ".join(text.split())[:MAX_TEXT_CHARACTERS]
    return "".join(character if character.isprintable() else "?" for character in line)
