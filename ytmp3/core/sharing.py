"""The rules by which clients share limited places: running conversions, extractions, encoders, transfers, connections.

Two rules. Where a client can wait for a place (`Places`), a client that is alone may use all of them, and while others
wait, each gets its part. Where it cannot wait and is refused instead (`may_take_more`), a client may use as many places
as it leaves free. Pure.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from ytmp3.core.ids import ClientId


class Places(Struct, frozen=True, kw_only=True):
    """A number of places, with spare ones for clients that arrive while one client uses more than its part.

    Work that runs is not interrupted, and may take minutes. Without the spare places, a client that arrives while
    another uses all places would wait until that work ends.
    """

    count: int
    """Places that may be in use at once."""
    spare: int
    """Further places. They are used only while a client has more than its part, and only by clients that have less."""

    def may_take(self, client: ClientId, held: Mapping[ClientId, int], waiting: Collection[ClientId]) -> bool:
        """Return whether a waiting client may take another place.

        `held` has the number of places of each client that has any; `waiting` has the clients that wait, `client` among
        them. A client's part is the number of places divided by the number of these clients, but at least one place.
        Of a client that holds more than its part, only the part counts. With more clients than places that is nothing,
        because the others could use every place.
        """
        in_use = sum(held.values())
        if in_use < self.count:
            return True
        if in_use >= self.count + self.spare:
            return False
        clients = len(waiting) + sum(other not in waiting for other in held)
        share = self.count // clients
        part = max(1, share)
        if held.get(client, 0) >= part:
            return False
        return sum(places if places <= part else share for places in held.values()) < self.count


def may_take_more(held: int, in_use: int, count: int) -> bool:
    """Return whether a client that holds `held` of `count` places may take one more; `in_use` counts those of all.

    A client may hold at most as many places as are free. So one client alone gets half of them, the next one half of
    the rest, and one client can never take all (dynamic thresholds: Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998).
    """
    return held < count - in_use
