"""The rules by which clients share limited places: running conversions, extractions, encoders, transfers, connections.

There are two rules. If a client can wait for a place (`Places`), a single client may use all places, and while others
wait, each client gets its fair share. If a client cannot wait and is refused instead (`may_take_more`), it may use at
most as many places as it leaves free. Pure.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct

from ytmp3.core.ids import ClientId


class Places(Struct, frozen=True, kw_only=True):
    """A number of places, with spare ones for clients that arrive while one client uses more than its fair share.

    Running work is not interrupted, and may take minutes. Without the spare places, a client that arrives while another
    client uses all places would have to wait until that work ends.
    """

    count: int
    """Places that may be in use at once."""
    spare: int
    """Additional places. Used only while a client has more than its fair share, and only by clients that have less."""

    def may_take(self, client: ClientId, held: Mapping[ClientId, int], waiting: Collection[ClientId]) -> bool:
        """Return whether a waiting client may take another place.

        `held` has the number of places of each client that has any; `waiting` has the clients that wait, including
        `client`. The fair share of a client (`part`) is the number of places divided by the number of all these
        clients, but at least one place. If a client holds more than its fair share, only `share` of its places count
        as used, so that the others can use spare places. `share` is 0 if there are more clients than places.
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

    A client may hold at most as many places as are free. So a single client gets half of them, the next one half of
    the rest, and no client can ever take all (dynamic thresholds: Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998).
    """
    return held < count - in_use
