"""The form of a setting, and parsers for values. Each parser takes the text of an environment variable.

Pure. `setting_files` has the parsers of settings that name files.

Every parser raises ValueError if the text is not valid. The caller adds the variable's name and the expected form.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ytmp3.core.client import Network
from ytmp3.core.errors import RequestError
from ytmp3.core.ids import VideoId
from ytmp3.core.link import parse_video_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One environment variable."""

    name: str
    default: str
    """The value of an unset or empty variable, as text."""
    form: str
    """The expected form. It completes the sentence "NAME: expected ..."."""
    meaning: str
    parse: Callable[[str], object]
    """A function that parses the stripped text. It raises ValueError if the text does not have the expected form."""


def integer_within(low: int, high: int) -> Callable[[str], int]:
    """Return the parser of an integer in decimal digits, both ends included."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()):
            raise ValueError
        return int(_within(int(text), low, high))

    return parse


def number_within(low: float, high: float) -> Callable[[str], float]:
    """Return the parser of a number, both ends included."""
    return lambda text: _within(float(text), low, high)


def _within(value: float, low: float, high: float) -> float:
    # Written in this form, the condition refuses NaN too.
    if not low <= value <= high:
        raise ValueError
    return value


def any_text(text: str) -> str:
    """Return any text unchanged."""
    return text


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return the parser of one of some words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError
        return text.lower()

    return parse


def folder(text: str) -> Path:
    """Return a folder, which need not exist."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        # Without a home folder, "~" stands for nothing.
        raise ValueError from error


def networks(text: str) -> tuple[Network, ...]:
    """Return addresses and networks that are separated by commas or white space."""
    return tuple(ipaddress.ip_network(part, strict=False) for part in text.replace(",", " ").split())


def origins(text: str) -> frozenset[str]:
    """Return web origins that are separated by commas or white space."""
    given = frozenset(text.replace(",", " ").split())
    for origin in given:
        parts = urlsplit(origin)
        if origin != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in {"http", "https"}:
            raise ValueError
        if not parts.hostname or "@" in parts.netloc:
            raise ValueError
    return given


def proxy(text: str) -> str:
    """Return the URL of a proxy; empty for none."""
    if not text:
        return ""
    parts = urlsplit(text)
    # yt-dlp's only HTTP library here, urllib, cannot speak TLS to a proxy.
    if parts.scheme not in {"http", "socks5", "socks5h"} or not parts.hostname:
        raise ValueError
    _ = parts.port  # raises ValueError if the port is no number from 0 to 65535
    return text


def plain_url(text: str) -> str:
    """Return an http or https URL without a slash at the end; empty for none."""
    if not text:
        return ""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError
    _ = parts.port  # raises ValueError if the port is no number from 0 to 65535
    return text.rstrip("/")


EXTRACTOR_KEYS: Final = ("player_client", "player_skip", "skip", "lang", "formats", "player_js_variant")
"""Arguments of yt-dlp's YouTube extractor that an operator may set. None of them can hold a secret or an address."""

_EXTRACTOR_VALUES: Final = re.compile(r"-?[A-Za-z0-9_.]+(,-?[A-Za-z0-9_.]+)*")


def extractor_arguments(text: str) -> dict[str, tuple[str, ...]]:
    """Return yt-dlp's extractor arguments for YouTube by key: `youtube:KEY=VALUE,VALUE;KEY=VALUE`."""
    arguments: dict[str, tuple[str, ...]] = {}
    if not text:
        return arguments
    extractor, _, pairs = text.partition(":")
    if extractor != "youtube":
        raise ValueError
    for pair in pairs.split(";"):
        key, _, values = pair.partition("=")
        if key not in EXTRACTOR_KEYS or key in arguments or not _EXTRACTOR_VALUES.fullmatch(values):
            raise ValueError
        arguments[key] = tuple(values.split(","))
    return arguments


MAX_CANARIES: Final = 10
"""Most videos with which a release of yt-dlp is tried. Each takes a place in the hourly budget."""


def video_links(text: str) -> tuple[VideoId, ...]:
    """Return the videos of links that are separated by white space, each once."""
    try:
        found = tuple(dict.fromkeys(parse_video_id(link) for link in text.split()))
    except RequestError as error:
        raise ValueError from error
    if len(found) > MAX_CANARIES:
        raise ValueError
    return found


_CLIENT_GROUPS: Final = re.compile(r"[a-z_]+(\+[a-z_]+)*(,[a-z_]+(\+[a-z_]+)*)*", re.ASCII)


def player_clients(text: str) -> tuple[tuple[str, ...], ...]:
    """Return groups of yt-dlp's player clients: `visionos,tv+web,default`. No client may be named twice."""
    if not text:
        return ()
    if not _CLIENT_GROUPS.fullmatch(text):
        raise ValueError
    groups = tuple(tuple(group.split("+")) for group in text.split(","))
    names = [name for group in groups for name in group]
    if len(names) != len(set(names)):
        raise ValueError
    return groups


def address(text: str) -> str:
    """Return a numeric IP address in its usual form; empty for none."""
    return str(ipaddress.ip_address(text)) if text else ""


def prefix(text: str) -> str:
    """Return a path that begins and ends with a slash; empty for none."""
    if text and not (text.startswith("/") and text.endswith("/")):
        raise ValueError
    return text


def public_url(text: str) -> str:
    """Return a public URL without the slash at its end; empty for none."""
    if not text:
        return ""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError
    _ = parts.port
    path = parts.path.rstrip("/")
    if "?" in text or "#" in text or not re.fullmatch(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", path, re.ASCII):
        raise ValueError
    return f"{parts.scheme}://{parts.netloc}{path}"


def private_hosts(text: str) -> tuple[frozenset[str], tuple[Network, ...]]:
    """Return host names, and addresses or networks, that are separated by commas or white space."""
    names, found = set(), []
    for part in text.replace(",", " ").lower().split():
        try:
            found.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            if not re.fullmatch(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", part, re.ASCII):
                raise
            names.add(part)
    return frozenset(names), tuple(found)
