"""Who is asking: an API key where keys are in use, else a network address taken only from proxies we trust. Pure."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from msgspec import Struct

from ytmp3.core.errors import Ytmp3Error

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
KEY_PREFIX: Final = "ytmp3_"
"""Lets secret scanners recognise a leaked key."""
KEY_BYTES: Final = 24
"""192 bits of chance: a plain SHA-256 at rest is then enough (ASVS 6.5.2 asks for 112)."""
MAX_KEY_CHARACTERS: Final = 200
IPV6_PREFIX: Final = 64
"""One subscriber has a whole /64: a limit by single address would be none."""
MAX_HOPS: Final = 8
"""Of `X-Forwarded-For`, from the right: no chain of proxies is longer, but a header may hold a hundred thousand."""


class KeyFileError(Ytmp3Error):
    """The keys file cannot be used; the text names the line, and shows nothing of it."""


class ApiKey(Struct, frozen=True, kw_only=True):
    """One accepted key: the hash of the secret, and limits of its own (None: those of every client)."""

    name: str
    digest: bytes
    requests_per_second: float | None = None
    burst: int | None = None
    max_jobs: int | None = None


class Client(Struct, frozen=True, kw_only=True):
    """Whoever made a request. `owner` is what a job remembers of it."""

    owner: str
    key: ApiKey | None = None


def new_secret(chance: bytes) -> str:
    """Return the text of a new key. `chance` is KEY_BYTES bytes from a CSPRNG."""
    return KEY_PREFIX + chance.hex()


def digest_of(secret: str) -> bytes:
    """Return what is kept of a key."""
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
        raise KeyFileError("no key in it: nobody could use the service")
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
    """Return the key that a request presented. Every key is compared, each in constant time."""
    if secret is None or len(secret) > MAX_KEY_CHARACTERS:
        return None
    digest = digest_of(secret)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def presented_secret(api_key: Sequence[str], authorization: Sequence[str]) -> str | None:
    """Return the secret in `X-API-Key` or `Authorization: Bearer`; None if there is none, or more than one."""
    secrets = list(api_key)
    for field in authorization:
        scheme, _, token = field.partition(" ")
        secrets.append(token.strip() if scheme.lower() == "bearer" else "")
    return secrets[0] if len(secrets) == 1 and secrets[0] else None


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the address to hold responsible: the right-most hop that is not a trusted proxy; IPv6 as its /64.

    `X-Forwarded-For` is read only when the peer itself is trusted, because anyone can send it.
    """
    address = _parse(peer)
    if address is None:
        return "unknown"
    for hop in islice(_from_the_right(forwarded_for), MAX_HOPS):
        said = _parse(hop) if _is_in(address, trusted) else None
        if said is None:
            break
        address = said
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)


def is_trusted(peer: str | None, trusted: Sequence[Network]) -> bool:
    """Tell whether this peer may say who a client is."""
    address = _parse(peer)
    return address is not None and _is_in(address, trusted)


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _from_the_right(fields: Sequence[str]) -> Iterator[str]:
    for field in reversed(fields):
        rest, comma = field, ","
        while comma:
            rest, comma, hop = rest.rpartition(",")
            yield hop.strip()


def _parse(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address((text or "").split("%", 1)[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped
