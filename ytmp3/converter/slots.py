"""The slots of a stage that only a few conversions may be in at once (extractions, encoders), shared between clients.

The rule: a free slot goes to the waiting client that holds the fewest slots. Among clients with equally many, short
work goes before long work, but long work does not wait forever: each second of audio postpones it by 0.1 s.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from ytmp3.core.ids import ClientId
from ytmp3.core.sharing import Places

WAIT_FOR_SECOND: Final = 0.1
"""Seconds of waiting that a conversion concedes to others for each second of its audio: a song of 4 minutes goes before
a mix of 20 minutes that began to wait up to 96 s earlier. An encoder needs about 0.02 s for a second of audio, so no
conversion waits longer than a few times the duration of its own encoding because of this rule."""


class Slot:
    """A slot that is held. It may be released early, and is released only once."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the slot to the next waiting conversion. Does nothing if it was released before."""
        if self._release is not None:
            release, self._release = self._release, None
            release()


class _Waiter:
    """A conversion that waits for a slot. Waiters get slots by `order`: the arrival time, plus a delay for audio."""

    def __init__(self, client: ClientId, order: float) -> None:
        self.client = client
        self.order = order
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class FairSlots:
    """`count` slots, and `spare` ones for clients that arrive while another has more than its fair share.

    `core.sharing.Places` defines the rule.
    """

    def __init__(self, count: int, *, spare: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = Places(count=count, spare=spare)
        self._clock = clock
        self._held: Counter[ClientId] = Counter()
        """The slots in use, by client. Clients without one are not in it."""
        self._waiters: list[_Waiter] = []
        """In order of arrival. When the slots or the waiters last changed, none of these could take a slot."""

    def has_free(self, client: ClientId) -> bool:
        """Return whether the client would get a slot at once."""
        return self._places.may_take(client, self._held, {client, *(waiter.client for waiter in self._waiters)})

    def is_idle(self, client: ClientId) -> bool:
        """Return whether the client would get a slot at once, and nobody waits for one."""
        return not self._waiters and self.has_free(client)

    @asynccontextmanager
    async def slot(self, client: ClientId, audio_seconds: float = 0.0) -> AsyncIterator[Slot]:
        """Wait for a slot, and hold it until the block ends or releases it. `audio_seconds`: length of the audio."""
        waiter = _Waiter(client, self._clock() + WAIT_FOR_SECOND * audio_seconds)
        self._waiters.append(waiter)
        self._grant()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                self._waiters.remove(waiter)
                # With fewer clients, the fair share of each is larger.
                self._grant()
            else:
                self._give_back(client)
            raise
        slot = Slot(lambda: self._give_back(client))
        try:
            yield slot
        finally:
            slot.release()

    def _give_back(self, client: ClientId) -> None:
        # Subtracting counters also drops a client whose count reaches zero.
        self._held -= Counter((client,))
        self._grant()

    def _grant(self) -> None:
        """Give slots to waiting conversions, as many as may take one."""
        while waiting := [waiter for waiter in self._waiters if not waiter.granted.done()]:
            # Among equals, `min` returns the first one, which arrived first.
            first = min(waiting, key=lambda waiter: (self._held[waiter.client], waiter.order))
            if not self._places.may_take(first.client, self._held, {waiter.client for waiter in waiting}):
                return
            self._waiters.remove(first)
            self._held[first.client] += 1
            first.granted.set_result(None)
