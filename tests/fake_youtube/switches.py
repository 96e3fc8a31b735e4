"""What a test can change while the fake runs: through `switch(...)`, or `PATCH /switches` of the control port."""

from typing import Any, Literal

import msgspec

from .behaviour import Client
from .kinds import Kind
from .player import Player

EVERY = "*"
Outage = Literal["no", "403", "429", "500", "captcha", "reset"]


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """So many extractions are served for each guest session or address; then all of them are refused."""

    extractions: int
    per: Literal["visitor", "address"] = "address"
    answer: Literal["rate_limited", "bot_check", "captcha", "429"] = "rate_limited"
    # Seconds after the last refusal until the count starts again; None: only when the limit is changed or reset.
    pause_seconds: float | None = None


class Switches(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    # Whether clients get different answers (`clients.TRAITS`); a kind may ask for that by itself.
    clients: Literal["alike", "real"] = "alike"
    # Client (or "*") to the kind whose refusal it gets for every video.
    refused_clients: dict[str, Kind] = {}
    # Clients (or "*") whose formats carry no link.
    sabr_clients: tuple[str, ...] = ()
    # Client (or "*") to the offset in bytes from which its media are 403. Running responses end there, too.
    refused_media: dict[str, int] = {}
    # Names of the player scripts that pages mention: more than one take turns from extraction to extraction.
    players: tuple[str, ...] = ("solvable:0",)
    # How the watch page and the player API fail for every video.
    page: Outage = "no"
    api: Outage = "no"
    media: Outage = "no"
    limit: Limit | None = None
    # How sessions of accounts (a cookie LOGIN_INFO) are treated: served, served with a renewed cookie on each page, or
    # ended, which removes the cookie.
    account: Literal["served", "renewed", "ended"] = "served"
    # Whether the kind `slow` is sent without pauses from now on, running responses included.
    hurried: bool = False

    def __post_init__(self) -> None:
        for name in (*self.refused_clients, *self.sabr_clients, *self.refused_media):
            if name != EVERY:
                Client(name)
        if not self.players:
            raise ValueError("players must name at least one")
        for player in self.players:
            Player.named(player)


class Switchboard:
    """The switches of one running fake."""

    def __init__(self, start: Switches) -> None:
        self._start = start
        self.current = start
        # Links carry the generation they were made in; those of an earlier one are refused.
        self.generation = 0

    def change(self, changes: dict[str, Any]) -> Switches:
        """Replace the named switches. Raises ValueError for an unknown name or value, and changes nothing then."""
        self.current = msgspec.convert(msgspec.to_builtins(self.current) | changes, Switches)
        return self.current

    def reset(self) -> None:
        self.current = self._start

    def expire_links(self) -> None:
        """Refuse every media link that was made until now."""
        self.generation += 1

    def is_sabr_only(self, client: Client) -> bool:
        return bool({client.value, EVERY} & set(self.current.sabr_clients))

    def refusing_kind(self, client: Client) -> Kind | None:
        refused = self.current.refused_clients
        return refused.get(client) or refused.get(EVERY)

    def refused_from(self, client: Client) -> int | None:
        """Return the offset from which a client's media are refused; None for never."""
        refused = self.current.refused_media
        return refused.get(client, refused.get(EVERY))
