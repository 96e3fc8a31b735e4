"""What was seen of YouTube during one extraction and download, as far as it matters for the verdict. Pure.

Filled by the downloader (requests, warnings) and by the extractor (formats). `verdict` judges by it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from ytmp3.converter.youtube.signs import WITHOUT_REPLY, Sign

STORYBOARD_PROTOCOL: Final = "mhtml"
"""Protocol under which yt-dlp lists storyboards."""

_CLIENT: Final = re.compile(r"[A-Z0-9_]{1,40}", re.ASCII)
"""YouTube's name of a player client, such as TVHTML5."""


class Formats(Struct, frozen=True, kw_only=True):
    """How many formats of each kind yt-dlp listed."""

    audio: int = 0
    """Sound alone, downloadable."""
    muxed: int = 0
    """Sound and picture, downloadable."""
    video: int = 0
    """Picture alone, downloadable."""
    protected: int = 0
    """By DRM."""
    storyboards: int = 0

    @property
    def with_sound(self) -> int:
        """Downloadable formats with sound."""
        return self.audio + self.muxed


def count_formats(listed: Iterable[Mapping[str, Any]]) -> Formats:
    """Sort the formats of an extraction by kind."""
    counted: Counter[str] = Counter()
    for each in listed:
        if each.get("protocol") == STORYBOARD_PROTOCOL:
            counted["storyboards"] += 1
        elif each.get("has_drm") is True:
            counted["protected"] += 1
        elif each.get("acodec") == "none":
            counted["video"] += 1
        elif each.get("vcodec") == "none":
            counted["audio"] += 1
        else:
            counted["muxed"] += 1
    return Formats(**counted)


class Evidence:
    """Collects. One for each child."""

    def __init__(self) -> None:
        self.signs: Counter[Sign] = Counter()
        self._earlier: Counter[Sign] = Counter()
        self.replies = 0
        """Responses from YouTube, of any status."""
        self.last: Sign | None = None
        """The sign of the last request; None if it was answered well."""
        self.player_replies: Counter[Sign | None] = Counter()
        """Responses of the player API: by sign, or None for good ones."""
        self.has_cookies = False
        """Whether the operator's cookies are sent."""

    def answered(self, url: str) -> None:
        """Record a response that is not an error."""
        self.replies += 1
        self.last = None
        if _is_player(url):
            self.player_replies[None] += 1

    def refused(self, url: str, sign: Sign) -> None:
        """Record a response with the status of an error."""
        self.replies += 1
        self._failed(url, sign)

    def unanswered(self, url: str, sign: Sign) -> None:
        """Record a request that failed. Some failures prove that YouTube replied, such as a redirect that we refuse."""
        self.replies += sign not in WITHOUT_REPLY
        self._failed(url, sign)

    def warned(self, sign: Sign) -> None:
        """Record a warning of yt-dlp."""
        self.signs[sign] += 1

    def _failed(self, url: str, sign: Sign) -> None:
        self.signs[sign] += 1
        self.last = sign
        if _is_player(url):
            self.player_replies[sign] += 1

    def all_players_said(self, sign: Sign) -> bool:
        """Whether the player API refused every client in this way."""
        return set(self.player_replies) == {sign}

    def kinds(self) -> dict[str, int]:
        """Return how often each sign was seen."""
        return {sign.value: count for sign, count in (self._earlier + self.signs).items()}

    def begin_again(self) -> None:
        """Judge the next extraction, by other clients, without what this one met. The counts of signs stay."""
        self._earlier += self.signs
        self.signs.clear()
        self.player_replies.clear()
        self.last = None


def client_of_link(url: object) -> str:
    """Return YouTube's name of the player client that a media link was made for; empty if the link does not say.

    A media link has it in its query (`c=TVHTML5`), and the address of a manifest in its path (`/c/TVHTML5/`).
    """
    if not isinstance(url, str):
        return ""
    parts = urlsplit(url)
    names = parse_qs(parts.query).get("c") or [parts.path.partition("/c/")[2].partition("/")[0]]
    return names[0] if _CLIENT.fullmatch(names[0]) else ""


def _is_player(url: str) -> bool:
    return urlsplit(url).path == "/youtubei/v1/player"
