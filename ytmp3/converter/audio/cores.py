"""Chooses the CPU core on which an encoder runs.

The five threads of an encoder pass each other every 20 ms of sound. On several cores each handover wakes another core.
On one core the receiver runs only when the sender's queue is full, which saves 11 % of the CPU time (a song: 2.19 s
instead of 2.47 s; ffmpeg with its default options needs 2.65 s). Therefore an encoder is bound to one core once as many
encoders run as there are cores, or as may run at all. Before that it may use the idle cores, and ends sooner.
"""

import contextlib
import random
from collections.abc import Iterable, Iterator


class Cores:
    """The cores of this process, and how many encoders are bound to each.

    `max_encoders` is how many encoders may run at once. `cores` are those that this process may use.
    """

    def __init__(self, cores: Iterable[int], *, max_encoders: int) -> None:
        numbers = sorted(cores)
        # In random order: other instances on this machine choose among the same cores, without knowing of each other.
        self._encoders = dict.fromkeys(random.sample(numbers, len(numbers)), 0)
        self._enough = min(max_encoders, len(numbers))
        self._running = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[int | None]:
        """Yield the core for an encoder that starts now: the one with the fewest encoders; None while few are running.

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
