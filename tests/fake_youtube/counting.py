"""What was asked of the fake YouTube, so that a test can say "exactly one"."""

import collections
import dataclasses

from aiohttp import web


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of one video.

    An extraction asks for one page, then for one player response as each of several clients. So `extractions` counts
    pages; where the page is left out, the player requests of the client that asks most.
    """

    pages: int = 0
    player_requests: int = 0
    # By `clientName`.
    clients: dict[str, int] = dataclasses.field(default_factory=dict)
    extractions: int = 0
    media_requests: int = 0
    media_bytes: int = 0
    thumbnail_requests: int = 0


@dataclasses.dataclass(slots=True)
class _Tally:
    pages: int = 0
    players: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    media_requests: int = 0
    media_bytes: int = 0
    # By the number of the extraction that made the link.
    bytes_by_link: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    thumbnail_requests: int = 0

    @property
    def extractions(self) -> int:
        return self.pages or max(self.players.values(), default=0)


class Tallies:
    """One per fake YouTube; written by the servers and the proxy, on one event loop."""

    def __init__(self) -> None:
        self._videos: collections.defaultdict[str, _Tally] = collections.defaultdict(_Tally)
        # The proxy's user name by the peer's address; a later connection from the same port replaces it.
        self.proxy_users: dict[object, str | None] = {}
        self._visitors = 0
        self.refused: list[str] = []
        self.connects = 0
        self.trapped = 0
        self.captcha_pages = 0
        self.player_scripts = 0
        self.logged_in_pages = 0

    def __getitem__(self, identifier: str) -> _Tally:
        return self._videos[identifier]

    def reset(self) -> None:
        """Forget all, also which videos have failed once already."""
        self._videos.clear()
        self.refused.clear()
        self.connects = self.trapped = self.captcha_pages = self.player_scripts = self.logged_in_pages = 0

    def new_visitor(self) -> str:
        """Return the name of a new guest session."""
        self._visitors += 1
        return f"CgtmYWtlVis{self._visitors:08d}"

    def address_of(self, request: web.Request) -> str:
        """Return where a request seems to come from: the proxy's user name, else the peer's IP address.

        So a test has as many addresses as it invents user names in the proxy's URL.
        """
        peer = None if request.transport is None else request.transport.get_extra_info("peername")
        return self.proxy_users.get(peer) or request.remote or ""

    def counts(self, identifier: str) -> Counts:
        tally = self._videos.get(identifier)
        if tally is None:
            return Counts()
        return Counts(
            pages=tally.pages,
            player_requests=tally.players.total(),
            clients=dict(tally.players),
            extractions=tally.extractions,
            media_requests=tally.media_requests,
            media_bytes=tally.media_bytes,
            thumbnail_requests=tally.thumbnail_requests,
        )

    def everything(self) -> dict[str, object]:
        return {
            "connects": self.connects,
            "refused": list(self.refused),
            "trapped": self.trapped,
            "captcha_pages": self.captcha_pages,
            "player_scripts": self.player_scripts,
            "logged_in_pages": self.logged_in_pages,
            "videos": {identifier: dataclasses.asdict(self.counts(identifier)) for identifier in self._videos},
        }
