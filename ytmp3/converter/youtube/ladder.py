"""The ladder of ways to ask YouTube: which player clients an extraction asks, and when it goes on to others. Pure.

A rung is a group of yt-dlp's player clients that are asked together; their order is a setting (`YOUTUBE_CLIENTS`). By
default, the first rung is one client that needs no JavaScript, which costs a tenth of the CPU time, and the second is
yt-dlp's own choice. No single client has to work: a rung that cannot extract, or a client whose media are refused, is
left out in the rest of the conversion. If it fails in five conversions in a row, all conversions leave it out for some
minutes; then one of them tries it.

`Way` is the state of one conversion, in the downloading child. `Ladder` is the record of all, in the server.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct

from ytmp3.core.errors import FailureCode

_CHOICES: Final = frozenset({"default", "all"})
"""Words with which yt-dlp chooses clients by itself, so that their number is not known here."""

FAILURES_TO_SKIP: Final = 5
"""A rung or client that failed in so many conversions in a row, while another one succeeded, is left out."""

SKIP_SECONDS: Final = 300.0
"""How long, in seconds, it is left out before one conversion tries it again."""

MAX_CLIENTS: Final = 32
"""Most clients with a record. YouTube has about 15; the names come from the child, which is not trusted."""

CURABLE: Final = frozenset(
    {
        FailureCode.EXTRACTOR_BROKEN,
        FailureCode.BOT_CHECK,
        FailureCode.AGE_RESTRICTED,
        FailureCode.VIDEO_UNAVAILABLE,
        FailureCode.NO_AUDIO,
        FailureCode.FORMAT_UNAVAILABLE,
        FailureCode.LANGUAGE_UNAVAILABLE,
        FailureCode.DRM,
        FailureCode.UPSTREAM_ERROR,
    }
)
"""Failures of one client that another client may not have."""

BLAMED: Final = frozenset({FailureCode.EXTRACTOR_BROKEN, FailureCode.BOT_CHECK, FailureCode.UPSTREAM_ERROR})
"""Failures that count in the record of a rung. The other ones may be properties of the video: clients differ in whether
they may show videos for children or for adults."""


class Rung(Struct, frozen=True):
    """One way to ask."""

    clients: tuple[str, ...]
    """Player clients, by yt-dlp's names. `default` stands for its own choice, and `-NAME` leaves one out of that."""


LIGHT: Final = Rung(clients=("visionos",))
"""yt-dlp's client without JavaScript, which sends plain links (yt-dlp 2026.10.26)."""
DEFAULT: Final = Rung(clients=("default",))
"""yt-dlp's own clients."""
WITH_TOKEN: Final = Rung(clients=("mweb",))
"""A client whose media links work with a proof-of-origin token only. Asked last, where there is a provider."""


def single_clients(rungs: Iterable[Rung], default: Iterable[str]) -> list[tuple[int, str]]:
    """Return each client of the rungs once, with the number of its first rung. `default`: yt-dlp's own choice."""
    chosen = tuple(default)
    found: dict[str, int] = {}
    for number, rung in enumerate(rungs):
        left_out = {client[1:] for client in rung.clients if client.startswith("-")}
        for client in rung.clients:
            for each in chosen if client == "default" else (client,):
                if not each.startswith("-") and each not in left_out:
                    found.setdefault(each, number)
    return [(number, client) for client, number in found.items()]


class Way:
    """Whom one conversion asks. `left_out`: clients, by yt-dlp's names, that all conversions leave out at present."""

    def __init__(self, rungs: Sequence[Rung], left_out: Iterable[str] = ()) -> None:
        self._all = tuple(rungs)
        self._left_out = set(left_out)
        self._last_resort = Rung(clients=tuple(sorted(self._left_out)))
        self._rungs = [rung for rung in self._all if not _is_empty(rung, self._left_out)]
        self.failed: list[Rung] = []
        """The rungs that have failed by a fault of theirs."""
        if not self._rungs:
            self.start_over()

    @property
    def rung(self) -> Rung:
        """The rung to ask now."""
        return self._rungs[0]

    @property
    def leaves_out(self) -> bool:
        """Whether any client is left out, so that an extraction may fail because nobody is left."""
        return bool(self._left_out)

    @property
    def player_clients(self) -> list[str]:
        """The value of yt-dlp's `player_client`. Empty: yt-dlp's own choice."""
        left_out = [f"-{client}" for client in sorted(self._left_out)]
        return [] if self.rung == DEFAULT and not left_out else [*self.rung.clients, *left_out]

    def step_on(self, *, is_blamed: bool) -> bool:
        """Go on to the next rung, without the clients of this one. Returns False if there is none.

        After the last one, those that all conversions leave out at present are asked: perhaps they alone can serve this
        video.
        """
        left = self.rung
        left_out = self._left_out | {each for each in left.clients if each not in _CHOICES and each[0] != "-"}
        rungs = [rung for rung in self._rungs[1:] if not _is_empty(rung, left_out)]
        if not rungs and self._last_resort.clients and left != self._last_resort:
            rungs = [self._last_resort]
            left_out.difference_update(self._last_resort.clients)
        if not rungs:
            return False
        self._rungs, self._left_out = rungs, left_out
        if is_blamed:
            self.failed.append(left)
        return True

    def leave_out(self, clients: Iterable[str]) -> bool:
        """Ask these clients no more, because their media are refused. Returns False if nobody is left to ask."""
        self._left_out.update(clients)
        return not _is_empty(self.rung, self._left_out) or self.step_on(is_blamed=True)

    def start_over(self) -> None:
        """Ask everybody again, from the first rung on."""
        self._rungs = list(self._all)
        self._left_out.clear()


def _is_empty(rung: Rung, left_out: set[str]) -> bool:
    """Whether nobody is left of a rung. Unknown, and so assumed not, where yt-dlp chooses."""
    return not _CHOICES.intersection(rung.clients) and left_out.issuperset(rung.clients)


class Ladder:
    """The record of success of each rung and client. One for each server process; `clock` is in seconds."""

    def __init__(self, order: Sequence[Rung], clock: Callable[[], float]) -> None:
        self._order = tuple(order)
        self._clock = clock
        self._rungs = {rung: Record() for rung in self._order}
        self._clients: dict[str, Record] = {}

    def way(self) -> tuple[tuple[Rung, ...], tuple[str, ...]]:
        """Return the rungs for the next conversion, in order, and the clients to leave out, by YouTube's names.

        There is at least one rung, even if all have failed.
        """
        now = self._clock()
        rungs = tuple(rung for rung in self._order if self._rungs[rung].is_tried(now))
        left_out = tuple(name for name, record in self._clients.items() if not record.is_tried(now))
        return rungs or self._order, left_out

    def ended(self, rung: Rung, failed: Iterable[Rung], client: str, refused: Iterable[str]) -> None:
        """Record a download that succeeded by this rung and client, after others had failed."""
        now = self._clock()
        records = [self._rungs.get(each) for each in failed] + [self._record(each) for each in refused]
        for record in records:
            if record is not None:
                record.failed(now)
        if rung in self._rungs:
            self._rungs[rung] = Record()
        self._clients.pop(client, None)

    def _record(self, client: str) -> "Record | None":
        if client not in self._clients and len(self._clients) < MAX_CLIENTS:
            self._clients[client] = Record()
        return self._clients.get(client)


class Record:
    """How one rung, client, or other way of asking has done lately."""

    def __init__(self) -> None:
        self._failures = 0
        self._skipped_until = 0.0

    def failed(self, now: float) -> None:
        """Record a failure while another way succeeded."""
        self._failures += 1
        if self._failures >= FAILURES_TO_SKIP:
            self._skipped_until = now + SKIP_SECONDS

    def is_tried(self, now: float) -> bool:
        """Whether the next conversion tries it. If it has failed often, the others wait for the result."""
        if now < self._skipped_until:
            return False
        if self._failures >= FAILURES_TO_SKIP:
            self._skipped_until = now + SKIP_SECONDS
        return True
