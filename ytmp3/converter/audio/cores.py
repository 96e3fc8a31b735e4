"""Chooses the CPU core on which an encoder runs.

The five threads of an encoder pass pieces of 20 ms of audio to each other. With several cores, each piece wakes another
core. On one core, the receiver runs only when the sender's queue is full. This saves 11 % of the CPU time (2.19 s
instead of 2.47 s for a song; ffmpeg with its default options needs 2.65 s). Therefore encoders are bound to one core
each while as many run as there are cores, or as may run at once. If fewer run, a new encoder may use all cores, and
ends sooner.
"""

import contextlib
import random
from collections.abc import Iterable, Iterator


class Cores:
    """The cores of this process, and the number of encoders that are bound to each.

    `max_encoders` is the most encoders that may run at once. `cores` are the cores that this process may use.
    """

    def __init__(self, cores: Iterable[int], *, max_encoders: int) -> None:
        numbers = sorted(cores)
        # The order is random, because other instances on this machine choose independently among the same cores.
        self._encoders = dict.fromkeys(random.sample(numbers, len(numbers)), 0)
        self._enough = min(max_encoders, len(numbers))
        self._running = 0

    @property
    def idle(self) -> int:
        """The number of cores for which this instance runs no encoder."""
        return max(0, len(self._encoders) - self._running)

    @contextlib.contextmanager
    def one(self) -> Iterator[int | None]:
        """Yield the core with the fewest encoders for a new encoder, or None (all cores) while few encoders run.

        The encoder counts as running until the `with` block ends.
        """
        self._running += 1
        core = min(self._encoders, key=self._encoders.__getitem__) if self._running >= self._enough else None
        if core is not None:
            self._encoders[core] += 1
        try:
            yield core
        finally:
            self._running -= 1
            if core is not None:
                self._encoders[core] -= 1
