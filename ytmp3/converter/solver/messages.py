"""The messages between a youtube child and the server's solver: one JSON message on each line.

The child sends a Question. A Solve may be followed by the player script, as `script_bytes` bytes. It is answered with
one Answer; a LinkRefused is not answered.
"""

from typing import Final, Literal

import msgspec
from msgspec import Struct

MAX_LINE_BYTES: Final = 256 * 1024
"""Longest line, in bytes. A conversion has about 30 challenges of 20 to 110 characters; the answer repeats them."""

MAX_SCRIPT_BYTES: Final = 8 * 2**20
"""Largest player script that is accepted, in bytes: three times the size of YouTube's."""


class Challenges(Struct, frozen=True, kw_only=True):
    """Texts for one function of the player script."""

    kind: Literal["n", "sig"]
    challenges: list[str]


class Solve(Struct, frozen=True, kw_only=True, tag=True):
    """A request to solve challenges."""

    player: str
    """Path of the player script on YouTube: it contains the script's id and variant."""
    requests: list[Challenges]
    script_bytes: int = 0
    """Size of the script that follows this line; 0 if none does."""


class LinkRefused(Struct, frozen=True, kw_only=True, tag=True):
    """YouTube has refused (403) a media link that was made with a solution, so the solution may be wrong."""

    player: str
    generation: int
    """The generation in the Solved that had the solution."""


Question = Solve | LinkRefused


class Solved(Struct, frozen=True, kw_only=True, tag=True):
    """The solutions, in the order of the requests: challenge to solution."""

    results: list[dict[str, str]]
    generation: int
    """How many times this player's script has been parsed."""


class ScriptNeeded(Struct, frozen=True, kw_only=True, tag=True):
    """The script of this player is not known: send the request again, with the script."""


class Unavailable(Struct, frozen=True, kw_only=True, tag=True):
    """The solver cannot solve the challenges."""

    reason: str


Answer = Solved | ScriptNeeded | Unavailable

encode = msgspec.json.Encoder().encode
decode_question = msgspec.json.Decoder(Question).decode
decode_answer = msgspec.json.Decoder(Answer).decode
