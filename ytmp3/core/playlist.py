"""Recognises links to playlists, albums and channels, and makes the URL that yt-dlp gets. Pure.

The rule is that of `core.link`: the rest of the service gets a URL that is made here from a checked id or name, and no
other part of the client's text.
"""

import re
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from ytmp3.core.errors import NotAPlaylist, PlaylistRefused
from ytmp3.core.ids import VideoId
from ytmp3.core.link import youtube_page

_LIST: Final = re.compile(r"(?:PL|UU|OLAK5uy_|RDCLAK5uy_|FL|EC|SP)[A-Za-z0-9_-]{8,60}", re.ASCII)
"""Ids of finite lists: playlists of users, uploads of a channel, albums, and playlists made by YouTube Music."""
_MIX: Final = re.compile(r"(?:RD|UL|TLGG)[A-Za-z0-9_-]*", re.ASCII)
"""Ids of mixes, which YouTube generates for each viewer and which have no end."""
_PERSONAL: Final = frozenset({"WL", "LL", "LM", "HL"})
"""Watch later, liked videos, liked music, history: lists that only their owner can see."""
_CHANNEL: Final = re.compile(r"UC[A-Za-z0-9_-]{22}", re.ASCII)
_NAME: Final = re.compile(r"[\w.\-\u00b7]{1,100}")
"""The name of a channel, in any script."""

MAX_TITLE_CHARACTERS: Final = 200
"""Longest title of a playlist that is kept."""
PRIVATE: Final = "private"
REMOVED: Final = "removed"
MESSAGES: Final = {PRIVATE: "The video is private.", REMOVED: "The video has been removed."}
"""The codes of playlist entries without a video that can be watched, as in the error of a job, with their texts."""


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of a playlist."""

    video_id: VideoId
    code: str | None = None
    """PRIVATE or REMOVED, if the playlist says so."""


class Listing(Struct, frozen=True, kw_only=True):
    """The entries of a playlist that were read."""

    title: str | None
    entries: tuple[Entry, ...]
    is_truncated: bool
    """Whether the playlist has more entries than were read: the limit of items or of time was reached."""


def parse_playlist(link: str) -> str:
    """Return the address of the playlist, the album or the uploads of the channel that `link` names.

    Raises:
        PlaylistRefused: a mix, or a list that only its owner can see.
        NotAPlaylist: any other text.
    """
    text = link.strip()
    if _LIST.fullmatch(text):
        return _address_of(text)
    path, parameters = youtube_page(text)
    lists = {value for name, value in parameters if name == "list"}
    if len(lists) == 1:
        return _of_list(lists.pop())
    segments = path.removesuffix("/").split("/")[1:]
    match segments:
        case [name, *tab] if name.startswith("@") and tab in ([], ["videos"]) and _NAME.fullmatch(name[1:]):
            return f"https://www.youtube.com/@{quote(name[1:])}/videos"
        case ["channel", channel, *tab] if tab in ([], ["videos"]) and _CHANNEL.fullmatch(channel):
            # The list of a channel's uploads has the id of the channel, with another prefix.
            return _address_of(f"UU{channel[2:]}")
        case ["c" | "user" as folder, name, *tab] if tab in ([], ["videos"]) and _NAME.fullmatch(name):
            return f"https://www.youtube.com/{folder}/{quote(name)}/videos"
    raise NotAPlaylist


def _of_list(list_id: str) -> str:
    if list_id in _PERSONAL:
        raise PlaylistRefused(
            "Only its owner can see this list. Copy it to a playlist first.", reason_code="playlist_personal"
        )
    if _LIST.fullmatch(list_id):
        return _address_of(list_id)
    if _MIX.fullmatch(list_id):
        raise PlaylistRefused(
            "This is a mix: YouTube generates it for each viewer, without end.", reason_code="playlist_endless"
        )
    raise NotAPlaylist


def _address_of(list_id: str) -> str:
    return f"https://www.youtube.com/playlist?list={list_id}"
