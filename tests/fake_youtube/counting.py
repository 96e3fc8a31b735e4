"""What was asked of the fake YouTube, so that a test can say "exactly one"."""

import collections
import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of one video.

    An extraction asks for one page, then for one player response as each of several clients. So `extractions` counts
    pages; where the tool is told to leave the page out, the player requests of the client that asks most.
    """

    pages: int = 0
    player_requests: int = 0
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
    thumbnail_requests: int = 0

    @property
    def extractions(self) -> int:
        return self.pages or max(self.players.values(), default=0)


class Tallies:
    """One per fake YouTube; written by the server and the proxy, on one event loop."""

    def __init__(self) -> None:
        self._videos: collections.defaultdict[str, _Tally] = collections.defaultdict(_Tally)
        self.refused: list[str] = []
        self.connects = 0
        self.trapped = 0

    def __getitem__(self, identifier: str) -> _Tally:
        return self._videos[identifier]

    def reset(self) -> None:
        """Forget all, also which videos have failed once already."""
        self._videos.clear()
        self.refused.clear()
        self.connects = 0
        self.trapped = 0

    def counts(self, identifier: str) -> Counts:
        tally = self._videos.get(identifier)
        if tally is None:
            return Counts()
        return Counts(
            pages=tally.pages,
            player_requests=tally.players.total(),
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
            "videos": {identifier: dataclasses.asdict(self.counts(identifier)) for identifier in self._videos},
        }
