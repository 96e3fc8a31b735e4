"""IDENTITIES_FILE: the egress routes to YouTube. Checks who may read it: it may contain the passwords of proxies.

One identity a line, `#` begins a comment line:

    NAME [proxy=URL | source=ADDRESS] [family=4|6] [cookies=PATH] [videos_per_hour=N] [po_token=yes|no]
"""

import ipaddress
import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ytmp3.converter.settings import Egress, Identity
from ytmp3.core.errors import Ytmp3Error
from ytmp3.setting_files import cookies
from ytmp3.setting_forms import proxy

log = logging.getLogger(__name__)

GUEST_VIDEOS_PER_HOUR: Final = 240
"""Default budget. According to the yt-dlp wiki, YouTube allows a session without an account about 300 videos
an hour."""
MOST_VIDEOS_PER_HOUR: Final = 100_000
MAX_IDENTITIES: Final = 1000

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_KEYS: Final = frozenset({"proxy", "source", "family", "cookies", "videos_per_hour", "po_token"})
_FORM: Final = (
    "expected NAME [proxy=URL | source=ADDRESS] [family=4|6] [cookies=PATH] [videos_per_hour=N] [po_token=yes|no]"
)


class IdentitiesFileError(Ytmp3Error):
    """IDENTITIES_FILE cannot be used. The text names the line but does not show it, because it may contain a secret."""


def read_identities_file(path: Path) -> tuple[Identity, ...]:
    """Return the identities of the file. Called at the start, and again for each SIGHUP.

    Raises:
        IdentitiesFileError: it cannot be read, a line of it is wrong, or every user may write it.
    """
    try:
        with path.open(encoding="utf-8") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        raise IdentitiesFileError(error.strerror or "" if isinstance(error, OSError) else "not UTF-8") from error
    if mode & stat.S_IWOTH:
        raise IdentitiesFileError(f"every user may write it, and so redirect all traffic: chmod 600 {path}")
    if mode & (stat.S_IWGRP | stat.S_IROTH):
        log.warning("other users may access the identities file", extra={"file": str(path), "remedy": "chmod 600"})
    return parse_identities(text)


def parse_identities(text: str) -> tuple[Identity, ...]:
    """Read IDENTITIES_FILE.

    Raises:
        IdentitiesFileError
    """
    identities: dict[str, Identity] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            identity = _identity(words[0], _options(words[1:]))
        except ValueError as error:
            raise IdentitiesFileError(f"line {number}: {error}") from None
        if identity.name in identities:
            raise IdentitiesFileError(f"line {number}: another line has the same name")
        identities[identity.name] = identity
    if not 0 < len(identities) <= MAX_IDENTITIES:
        raise IdentitiesFileError(f"expected 1 to {MAX_IDENTITIES} identities")
    return tuple(identities.values())


def _options(words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not value or key not in _KEYS or key in options:
            raise ValueError(_FORM)
        options[key] = value
    return options


def _identity(name: str, options: Mapping[str, str]) -> Identity:
    """Return the identity of a line. Raises ValueError, whose text shows no word of it."""
    if _NAME.fullmatch(name) is None:
        raise ValueError("NAME: expected 1 to 64 letters, digits, dots, dashes and underscores")
    if "proxy" in options and "source" in options:
        raise ValueError("expected proxy= or source=, not both")
    return Identity(
        name=name,
        egress=Egress(
            proxy=_proxy(options["proxy"]) if "proxy" in options else None,
            family=_word(options, "family", {"4": "4", "6": "6"}, "auto"),
            source_address=_address(options["source"]) if "source" in options else None,
        ),
        cookies_file=_cookies(options["cookies"]) if "cookies" in options else None,
        videos_per_hour=_number(options.get("videos_per_hour", str(GUEST_VIDEOS_PER_HOUR))),
        has_po_tokens=_word(options, "po_token", {"yes": "yes", "no": "no"}, "no") == "yes",
    )


def _proxy(text: str) -> str:
    try:
        return proxy(text)
    except ValueError:
        raise ValueError("proxy: expected a http://, socks5:// or socks5h:// URL") from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("source: expected an IP address of this machine") from None


def _cookies(text: str) -> Path | None:
    try:
        return cookies(text)
    except (OSError, ValueError):
        raise ValueError("cookies: expected a readable file with cookies in Netscape format") from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text) <= MOST_VIDEOS_PER_HOUR):
        raise ValueError(f"videos_per_hour: expected an integer from 0 to {MOST_VIDEOS_PER_HOUR}")
    return int(text)


def _word(options: Mapping[str, str], key: str, allowed: Mapping[str, str], default: str) -> str:
    value = options.get(key)
    if value is None:
        return default
    if value not in allowed:
        raise ValueError(f"{key}: expected {' or '.join(allowed)}")
    return allowed[value]
