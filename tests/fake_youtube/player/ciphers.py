"""What one player script computes, and the inverse of it.

The server starts from the value it wants to receive (`links`), applies the inverse, and sends the result as the
challenge; the script's functions turn it into the wanted value again. So no state is kept about links that were sent.
"""

import dataclasses
import functools
import itertools
import random
from enum import StrEnum
from typing import Final

ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_FIRST_TIMESTAMP: Final = 20_500
_STEPS: Final = 5


class Flavour(StrEnum):
    SOLVABLE = "solvable"
    # yt-dlp-ejs does not find the functions: no format of a scrambled client is left.
    UNSOLVABLE = "unsolvable"
    # yt-dlp-ejs finds them and gets a wrong value: the media server answers 403.
    MISLEADING = "misleading"


class Step(StrEnum):
    """One change of a list of characters; the number that belongs to it is its argument."""

    REVERSE = "reverse"
    DROP = "drop"  # the first k characters; signatures only
    SWAP = "swap"  # the first character with number k
    ROTATE = "rotate"  # the last k characters move to the front; `n` only
    SHIFT = "shift"  # character i becomes the one i + k places further in the alphabet; `n` only


Steps = tuple[tuple[Step, int], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Player:
    """A player script, named in settings as `solvable:1`: its flavour and a number that seeds everything else."""

    flavour: Flavour
    number: int

    @classmethod
    def named(cls, name: str) -> "Player":
        """Raises ValueError for anything but `flavour:number`."""
        flavour, _, number = name.partition(":")
        return cls(Flavour(flavour), int(number))

    @classmethod
    def identified(cls, identifier: str) -> "Player":
        """Return the player of an address. Raises ValueError for an id that no player has."""
        flavour, number = identifier[:2], identifier[2:]
        return cls(tuple(Flavour)[int(flavour, 16) - 0xA0], int(number, 16))

    @classmethod
    def stamped(cls, timestamp: int) -> "Player":
        """Return the player of a signature timestamp: a client names its player by it when it asks for links."""
        number, flavour = divmod(timestamp - _FIRST_TIMESTAMP, len(Flavour))
        return cls(tuple(Flavour)[flavour], number)

    @property
    def identifier(self) -> str:
        return f"{0xA0 + tuple(Flavour).index(self.flavour):02x}{self.number:06x}"

    @property
    def timestamp(self) -> int:
        return _FIRST_TIMESTAMP + self.number * len(Flavour) + tuple(Flavour).index(self.flavour)

    @property
    def path(self) -> str:
        return f"/s/player/{self.identifier}/player_ias.vflset/en_US/base.js"

    @property
    def signature_steps(self) -> Steps:
        return _steps(self.number, "signature", (Step.DROP, Step.SWAP, Step.REVERSE))

    @property
    def n_steps(self) -> Steps:
        return _steps(self.number, "n", (Step.ROTATE, Step.SHIFT, Step.SWAP, Step.REVERSE))

    def scramble_signature(self, wanted: str) -> str:
        """Return the `s` that the script turns into the wanted signature."""
        return _undo(self.signature_steps, wanted)

    def scramble_n(self, wanted: str) -> str:
        """Return the `n` that the script turns into the wanted one."""
        return _undo(self.n_steps, wanted)


@functools.cache
def _steps(number: int, name: str, kinds: tuple[Step, ...]) -> Steps:
    """Return a random sequence in which every kind occurs and none follows itself."""
    chance = random.Random(f"{name} {number}")
    chosen = [*kinds]
    while len(chosen) < _STEPS:
        chosen.append(chance.choice(kinds))
    chance.shuffle(chosen)
    while any(one is other for one, other in itertools.pairwise(chosen)):
        chance.shuffle(chosen)
    return tuple((step, chance.randrange(1, 4 if step is Step.DROP else 60)) for step in chosen)


def _undo(steps: Steps, wanted: str) -> str:
    letters = list(wanted)
    for step, k in reversed(steps):
        match step:
            case Step.REVERSE:
                letters.reverse()
            case Step.DROP:
                letters = [*ALPHABET[:k], *letters]
            case Step.SWAP:
                place = k % len(letters)
                letters[0], letters[place] = letters[place], letters[0]
            case Step.ROTATE:
                turn = k % len(letters)
                letters = letters[turn:] + letters[:turn]
            case Step.SHIFT:
                letters = [
                    ALPHABET[(ALPHABET.index(letter) - i - k) % len(ALPHABET)] for i, letter in enumerate(letters)
                ]
    return "".join(letters)
