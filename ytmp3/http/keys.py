"""API keys: how they are made, how the keys file is read, and which key a request presents.

The file holds only the SHA-256 of each key. Pure, except that `Keys` can be replaced while the service runs.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Final

from ytmp3.core.client import ApiKey
from ytmp3.core.errors import Ytmp3Error

KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
KEY_PREFIX: Final = "ytmp3_"
"""Starts every key, so that secret scanners recognise a leaked one."""
KEY_BYTES: Final = 24
"""Random bytes of a key. With 192 bits, a plain SHA-256 at rest is enough (OWASP ASVS 5.0, 6.5.2, asks for 112)."""
MAX_KEY_CHARACTERS: Final = 200
"""Longest secret that is looked up; our keys have 54 characters."""


class KeyFileError(Ytmp3Error):
    """The keys file cannot be used. The text names the line but shows nothing of it, because it may hold a secret."""


def new_secret(chance: bytes) -> str:
    """Return a new key. `chance` is KEY_BYTES bytes from a cryptographic random generator."""
    return KEY_PREFIX + chance.hex()


def digest_of(secret: str) -> bytes:
    """Return what is stored of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def key_line(name: str, secret: str) -> str:
    """Return the line of the keys file for a new key."""
    return f"{name} {digest_of(secret).hex()}"


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """Read a keys file: `NAME SHA256-HEX [requests_per_second=N] [burst=N] [max_jobs=N]` a line, `#` for comments.

    Several lines may carry one name: two live keys of one owner, for rotation.

    Raises:
        KeyFileError
    """
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if words:
            try:
                key = _parse_key(words)
            except (ValueError, KeyError):
                raise KeyFileError(f"line {number}: expected NAME SHA256-HEX [requests_per_second=N ...]") from None
            if key.burst is not None and key.requests_per_second is None:
                raise KeyFileError(f"line {number}: burst= needs requests_per_second= beside it")
            keys.append(key)
    if not keys:
        raise KeyFileError("the file holds no key, so every request would be refused")
    return tuple(keys)


def _parse_key(words: Sequence[str]) -> ApiKey:
    name, digest, *options = words
    if KEY_NAME.fullmatch(name) is None or len(digest) != 2 * hashlib.sha256().digest_size:
        raise ValueError
    limits = dict(option.split("=", 1) for option in options)
    rate, burst, max_jobs = (limits.pop(name, None) for name in ("requests_per_second", "burst", "max_jobs"))
    if limits:
        raise ValueError
    key = ApiKey(
        name=name,
        digest=bytes.fromhex(digest),
        requests_per_second=None if rate is None else float(rate),
        burst=None if burst is None else int(burst),
        max_jobs=None if max_jobs is None else int(max_jobs),
    )
    if not all(value is None or 0 < value < 1e9 for value in (key.requests_per_second, key.burst, key.max_jobs)):
        raise ValueError
    return key


def find_key(keys: Iterable[ApiKey], secret: str | None) -> ApiKey | None:
    """Return the key that a request presented, or None.

    Every key is compared, each in constant time, so the time of the answer tells nothing about the keys.
    """
    if secret is None or len(secret) > MAX_KEY_CHARACTERS:
        return None
    digest = digest_of(secret)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


class Keys:
    """The accepted API keys, or None if requests need no key."""

    def __init__(self, keys: Sequence[ApiKey] | None) -> None:
        self.keys = keys

    @property
    def are_required(self) -> bool:
        """Whether every request must present a key."""
        return self.keys is not None

    def replace(self, keys: Sequence[ApiKey]) -> None:
        """Accept other keys from now on, while requests are being served (SIGHUP)."""
        self.keys = keys
