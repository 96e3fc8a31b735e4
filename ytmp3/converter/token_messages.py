"""The messages between a youtube child and the server about proof-of-origin tokens: one JSON message on each line."""

from typing import Final

import msgspec
from msgspec import Struct

MAX_LINE_BYTES: Final = 16 * 1024
"""Longest line, in bytes. Content bindings and tokens have some hundred characters."""


class TokenWanted(Struct, frozen=True, kw_only=True, tag=True):
    """A request of the child."""

    content_binding: str
    """What YouTube ties the token to: the id of the video, or that of the guest session."""
    is_fresh: bool = False
    """Whether a kept token will not do, because YouTube has refused it."""


class Token(Struct, frozen=True, kw_only=True, tag=True):
    """The answer."""

    token: str


class NoToken(Struct, frozen=True, kw_only=True, tag=True):
    """The answer if there is none."""

    reason: str


encode = msgspec.json.Encoder().encode
decode_wanted = msgspec.json.Decoder(TokenWanted).decode
decode_answer = msgspec.json.Decoder(Token | NoToken).decode
