"""Which core an encoder keeps to. Pure but for the counts it keeps.

An encoder is five threads that hand each other every 20 ms of sound. Across cores a handing-over wakes another core;
on one it waits until the giver has filled its queue, and 11 % of the CPU is saved (a song: 2.19 s against 2.47 s, and
2.65 s for ffmpeg as it comes). So each keeps to one core once as many run as may, or as there are cores; before that
it may use those that are idle, and is done sooner.
"""

import contextlib
import random
from collections.abc import Iterable, Iterator


class Cores:
    """The cores of this process, and how many encoders keep to each. `places`: how many encoders may run at once."""

    def __init__(self, cores: Iterable[int], *, places: int) -> None:
        numbers = sorted(cores)
        # In an order of its own: other instances on this machine have the same cores, and know nothing of ours.
        self._encoders = dict.fromkeys(random.sample(numbers, len(numbers)), 0)
        self._many = min(places, len(numbers))
        self._running = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[int | None]:
        """Give an encoder that starts now the core to keep to, the one with the fewest; None while few are running."""
        self._running += 1
        core = min(self._encoders, key=self._encoders.__getitem__) if self._running >= self._many else None
        if core is not None:
            self._encoders[core] += 1
        try:
            yield core
        finally:
            self._running -= 1
            if core is not None:
                self._encoders[core] -= 1
