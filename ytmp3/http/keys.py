"""API keys: makes keys, reads the keys file, and finds the key of a request.

The file holds only the SHA-256 of each key. Pure, except that `Keys` can be replaced while the service runs.
"""

import hashlib
import hmac
import re
import string
from collections.abc import Iterable, Sequence
from typing import Final

from ytmp3.core.client import ApiKey, Client
from ytmp3.core.errors import Ytmp3Error
from ytmp3.core.ids import ClientId

KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
KEY_PREFIX: Final = "ytmp3_"
"""The beginning of every key, by which secret scanners recognise a leaked one."""
KEY_BYTES: Final = 24
"""Number of random bytes in a key. With 192 bits, a plain SHA-256 at rest is enough (OWASP ASVS 5.0, 6.5.2, requires
112 bits)."""
MAX_KEY_CHARACTERS: Final = 200
"""Longest secret that is hashed and compared, in characters. Our keys have 54."""

DIGEST_CHARACTERS: Final = 2 * hashlib.sha256().digest_size
"""Length of a SHA-256 in hexadecimal characters."""
LIMITS: Final = ("requests_per_second", "burst", "max_jobs")
"""The options of a line, each of the form NAME=NUMBER."""
MAX_LIMIT: Final = 1e9
"""Every limit must be smaller than this."""


class KeyFileError(Ytmp3Error):
    """The keys file cannot be used. The text names the line but does not show it, because it may contain a secret."""


def new_secret(chance: bytes) -> str:
    """Return a new key. `chance` is KEY_BYTES bytes from a cryptographic random generator."""
    return KEY_PREFIX + chance.hex()


def digest_of(secret: str) -> bytes:
    """Return the SHA-256 of a key, which is what the keys file contains."""
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
                keys.append(_parse_key(words))
            except ValueError as error:
                raise KeyFileError(f"line {number}: {error}") from None
    if not keys:
        raise KeyFileError("the file holds no key, so every request would be refused")
    return tuple(keys)


def _parse_key(words: Sequence[str]) -> ApiKey:
    """Read the words of a line. Raises ValueError with what is expected, and with no word that may be a secret."""
    if len(words) < 2 or len(words[1]) != DIGEST_CHARACTERS or not set(words[1]) <= set(string.hexdigits):
        raise ValueError("expected NAME SHA256-HEX [requests_per_second=N] [burst=N] [max_jobs=N]")
    name, digest, *options = words
    if KEY_NAME.fullmatch(name) is None:
        raise ValueError("NAME: expected 1 to 64 letters, digits, dots, dashes and underscores")
    limits: dict[str, float] = {}
    for option in options:
        limit, equals, number = option.partition("=")
        if not equals or limit not in LIMITS:
            # Only a plain name with a value is shown: anything else may be a part of a secret.
            shown = f" {limit}" if equals and re.fullmatch(r"[a-z_]{1,32}", limit) else ""
            raise ValueError(f"unknown limit{shown}: expected one of {', '.join(LIMITS)}, with =N behind it")
        if limit in limits:
            raise ValueError(f"{limit}: given twice")
        limits[limit] = _limit(limit, number)
    if "burst" in limits and "requests_per_second" not in limits:
        raise ValueError("burst= needs requests_per_second= beside it")
    burst, max_jobs = limits.get("burst"), limits.get("max_jobs")
    return ApiKey(
        name=name,
        digest=bytes.fromhex(digest),
        requests_per_second=limits.get("requests_per_second"),
        burst=None if burst is None else int(burst),
        max_jobs=None if max_jobs is None else int(max_jobs),
    )


def _limit(limit: str, number: str) -> float:
    is_whole = limit != "requests_per_second"
    try:
        value = int(number) if is_whole else float(number)
    except ValueError:
        value = 0
    if not 0 < value < MAX_LIMIT:
        raise ValueError(f"{limit}: expected {'an integer' if is_whole else 'a number'} above 0")
    return value


def find_key(keys: Iterable[ApiKey], secret: str | None) -> ApiKey | None:
    """Return the key that a request presented, or None.

    Every key is compared, each in constant time, so the time of a response reveals nothing about the keys.
    """
    if secret is None or len(secret) > MAX_KEY_CHARACTERS:
        return None
    digest = digest_of(secret)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def owner_of(key: ApiKey) -> ClientId:
    """Return the client that a key stands for, as jobs name it."""
    return ClientId(f"key:{key.name}")


class Keys:
    """The accepted API keys, or None if requests need no key."""

    def __init__(self, keys: Sequence[ApiKey] | None) -> None:
        self.keys = keys

    @property
    def are_required(self) -> bool:
        """Whether every request must present a key."""
        return self.keys is not None

    def client_of(self, owner: ClientId) -> Client:
        """Return an owner with the limits of its key, if it has one now."""
        return Client(owner=owner, key=next((key for key in self.keys or () if owner_of(key) == owner), None))

    def has_owner(self, client: ClientId) -> bool:
        """Tell whether this client has a key, now."""
        return any(owner_of(key) == client for key in self.keys or ())

    def replace(self, keys: Sequence[ApiKey]) -> None:
        """Replace the accepted keys while the service runs (SIGHUP)."""
        self.keys = keys
