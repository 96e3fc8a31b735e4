"""Signs messages as Standard Webhooks 1.0.0 defines it: HMAC-SHA256 over id, timestamp and body. Pure."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  a prefix, not a secret
"""The beginning of every secret, by which secret scanners recognise a leaked one."""
MIN_SECRET_BYTES: Final = 24
"""Shortest secret, in bytes: the limits of Standard Webhooks."""
MAX_SECRET_BYTES: Final = 64
"""Longest secret, in bytes."""
NEW_SECRET_BYTES: Final = 32
"""Length of a secret that `ytmp3 webhook secret` makes, in bytes: that of the hash."""


def new_secret(chance: bytes) -> str:
    """Return a secret. `chance` is NEW_SECRET_BYTES bytes from a cryptographically secure random generator."""
    return SECRET_PREFIX + base64.b64encode(chance).decode()


def parse_secret(text: str) -> bytes:
    """Return the bytes of a secret in its usual form, `whsec_` and base64.

    Raises:
        ValueError: it does not have that form. The error does not repeat the text.
    """
    prefix, encoded = text[: len(SECRET_PREFIX)], text[len(SECRET_PREFIX) :]
    try:
        secret = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if prefix != SECRET_PREFIX or not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError("expected whsec_ and base64 of 24 to 64 bytes")
    return secret


def signed_headers(message_id: str, timestamp: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of a message that is sent at `timestamp`, in seconds since 1970.

    Each secret makes one signature. While a secret is replaced, there are two, and a receiver that has either of them
    accepts the message.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode() for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
