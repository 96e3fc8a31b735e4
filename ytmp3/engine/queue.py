"""The bounded queue of conversions waiting in this instance: an asyncio.Queue that is fair to clients.

The client with the fewest running conversions is served next. Clients with equally many take turns. So a client that is
alone can use all workers, and while several clients wait, none gets more than its share. The workers that a client got
while it was alone are not taken from it; clients that arrive then are served by spare workers (`core.sharing.Places`).

A slot is reserved before a conversion is stored. So a full queue refuses a submission before anything is stored. The
queue may be lost in a crash: the job store has all of its conversions, under this instance's leases.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heapreplace
from typing import Final

from ytmp3.core.ids import ClientId, ConversionId
from ytmp3.core.job import Conversion
from ytmp3.core.sharing import Places

POSITIONS_SECONDS: Final = 0.25
"""How long the computed positions are reused, in seconds.

Numbering 1,000 waiting conversions takes 0.2 ms, which is too much for every status request.
"""


class FairQueue(asyncio.Queue[Conversion]):
    """A queue that is first in, first out for each client; the clients take turns."""

    def __init__(self, capacity: int, running: Callable[[], Counter[ClientId]], places: Places | None = None) -> None:
        """`running` returns the number of running conversions of each client.

        `places` are the workers; None: the next conversion may always be taken.
        """
        super().__init__(capacity)
        self._running = running
        self._places = places

    # asyncio.Queue stores its items only through the methods `_init`, `_put`, `_get` and `qsize`, so they are
    # overridden here. `empty` decides whether `get` waits, so it is overridden too.

    def _init(self, maxsize: int) -> None:
        """Create the lines. Called by the constructor of asyncio.Queue, of which this class replaces the storage."""
        self._lines: OrderedDict[ClientId, deque[Conversion]] = OrderedDict()
        """The waiting conversions of each client. The client that was served longest ago is first. No deque is
        empty."""
        self._length = 0
        """The number of waiting conversions, in all lines together."""
        self._capacity = maxsize
        """Most waiting conversions and reserved slots together."""
        self._reserved = 0
        """Slots that are reserved for submissions that wait for the store."""
        self._positions: dict[ConversionId, int] = {}
        """The cached result of `positions`, computed at `_numbered_at`."""
        self._numbered_at = float("-inf")

    def qsize(self) -> int:
        """Return the number of waiting conversions; reserved slots are not counted."""
        return self._length

    def empty(self) -> bool:
        """Return whether no conversion may be taken now: none waits, or no worker is free for the clients that wait."""
        if self._length == 0:
            return True
        if self._places is None:
            return False
        running = self._running()
        return not self._places.may_take(self._next_client(running), running, self._lines)

    def _put(self, item: Conversion) -> None:
        self._lines.setdefault(item.client, deque()).append(item)
        self._length += 1

    def _get(self) -> Conversion:
        """Take the oldest conversion of the client that has the fewest running ones. Called by asyncio.Queue.

        So the first conversion of another client gets the next free worker, however many this client has waiting.
        """
        client = self._next_client(self._running())
        line = self._lines[client]
        item = line.popleft()
        self._length -= 1
        if line:
            self._lines.move_to_end(client)
        else:
            del self._lines[client]
        if self._length:
            # When a client leaves, the shares of the others grow, so more conversions may start than workers have
            # become free. Each worker that takes one lets the next idle worker look.
            self._let_next_look()
        return item

    def _let_next_look(self) -> None:
        """Let the next waiting `get` call `empty` again."""
        # A private method and attribute of asyncio.Queue, which all versions of Python have.
        self._wakeup_next(self._getters)  # type: ignore[attr-defined]

    def _next_client(self, running: Counter[ClientId]) -> ClientId:
        """Return the client with the fewest running conversions; among equals, the one that was served longest ago."""
        if len(self._lines) == 1:
            return next(iter(self._lines))
        # `min` returns the first of equals: the client whose turn it is.
        return min(self._lines, key=running.__getitem__)

    @property
    def free_slots(self) -> int:
        """The number of slots that are neither taken nor reserved."""
        return max(0, self._capacity - self._length - self._reserved)

    def reserve(self) -> bool:
        """Reserve a slot, if one is free. Later, `fill_reservation` uses it or `cancel_reservation` frees it."""
        if self.free_slots == 0:
            return False
        self._reserved += 1
        return True

    def cancel_reservation(self) -> None:
        """Free a reserved slot."""
        self._reserved -= 1

    def fill_reservation(self, conversion: Conversion) -> None:
        """Put a conversion into a reserved slot."""
        self._reserved -= 1
        self.put_nowait(conversion)

    def put_back(self, conversion: Conversion, *, is_reserved: bool = False) -> None:
        """Put a conversion that was just taken back, as the next one of its client.

        `is_reserved`: its slot was reserved with `reserve`.

        Raises:
            asyncio.QueueFull: the slot has been taken or reserved in the meantime.
        """
        if is_reserved:
            self._reserved -= 1
        elif self.free_slots == 0:
            raise asyncio.QueueFull
        self.put_nowait(conversion)
        self._lines[conversion.client].rotate(1)

    def take_all(self) -> list[Conversion]:
        """Remove and return all waiting conversions, in the order of service."""
        waiting = list(self.in_order())
        self._lines.clear()
        self._length = 0
        return waiting

    def remove(self, conversion_id: ConversionId, *, token: int | None = None) -> bool:
        """Remove a conversion, which frees its slot; with `token`, only under this token. Returns whether it did."""
        for client, line in self._lines.items():
            for item in line:
                if item.conversion_id == conversion_id and token in {None, item.token}:
                    line.remove(item)
                    self._length -= 1
                    if not line:
                        del self._lines[client]
                        self._let_next_look()
                    return True
        return False

    def holds(self, conversion_id: ConversionId) -> bool:
        """Return whether a conversion waits here."""
        return any(item.conversion_id == conversion_id for line in self._lines.values() for item in line)

    def in_order(self) -> Iterator[Conversion]:
        """Iterate over the waiting conversions in the order of service, as if no running conversion ended before."""
        running = self._running()
        lines = {client: iter(line) for client, line in self._lines.items()}
        # A heap of clients, ordered by the number of conversions that each would have running, then by turn.
        turns = [(running[client], turn, client) for turn, client in enumerate(lines)]
        heapify(turns)
        turn = len(turns)
        while turns:
            count, _, client = turns[0]
            item = next(lines[client], None)
            if item is None:
                heappop(turns)
            else:
                yield item
                heapreplace(turns, (count + 1, turn, client))
                turn += 1

    def positions(self, now: float) -> dict[ConversionId, int]:
        """Return the position of each waiting conversion (1 is next). The result may be POSITIONS_SECONDS old."""
        if now - self._numbered_at > POSITIONS_SECONDS:
            self._positions = {item.conversion_id: place for place, item in enumerate(self.in_order(), start=1)}
            self._numbered_at = now
        return self._positions

    def length_of(self, client: ClientId) -> int:
        """Return the number of waiting conversions of a client."""
        return len(self._lines.get(client, ()))

    def clients(self) -> Counter[ClientId]:
        """Count the waiting conversions of each client."""
        return Counter({client: len(line) for client, line in self._lines.items()})
