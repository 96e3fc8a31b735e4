"""Turns a YouTube link, in any public spelling, into its 11-character video id, and refuses everything else. Pure.

The rule: only the id goes further. No other byte of the client's text reaches a tool, a file name, a query or the
network, so a link cannot name another host, an option of yt-dlp or a shell command. The list of hosts is exact: other
sub-domains, look-alike names, ports and user names are refused, because parsers disagree on what they mean.
"""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

from ytmp3.core.errors import NotAVideo, UnsupportedUrl
from ytmp3.core.ids import VideoId

MAX_LINK_CHARACTERS: Final = 2048
"""Longest link. Browsers and proxies customarily stop at this length; real links are far shorter."""

_VIDEO_ID: Final = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_LINK: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.ASCII | re.IGNORECASE,
)
_PRINTABLE: Final = re.compile(r"[!-~]+", re.ASCII)
# Characters that a valid link holds only escaped (RFC 3986), and that a shell, a log or another parser may misread.
_FORBIDDEN: Final = frozenset('\\"<>^`{|}$;')
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)

_WATCH_HOSTS: Final = frozenset(
    {
        "youtube.com",
        "www.youtube.com",
        "m.youtube.com",
        "music.youtube.com",
        "youtube-nocookie.com",
        "www.youtube-nocookie.com",
    }
)
_SHORT_HOSTS: Final = frozenset({"youtu.be", "www.youtu.be"})
_ID_FOLDERS: Final = frozenset({"shorts", "embed", "live", "v", "e", "watch"})
# They have the form of an id but are not: players of a playlist and of a channel ("embed/live_stream?channel=...").
_NOT_IDS: Final = frozenset({"videoseries", "live_stream"})
# Addresses of YouTube for things that are not one video.
_NOT_A_VIDEO: Final = re.compile(
    r"/(?:@[^/]+|playlist|channel|c|user|results|feed|hashtag|gaming|clip|post|shorts|live|browse|explore)?(?:/.*)?"
)


def parse_video_id(link: str) -> VideoId:
    """Return the 11-character video id that `link` names.

    Raises:
        NotAVideo: a YouTube link to a channel, a playlist, a search or the like.
        UnsupportedUrl: anything else.
    """
    text = link.strip(" ")
    if len(text) > MAX_LINK_CHARACTERS or not _PRINTABLE.fullmatch(text) or _FORBIDDEN.intersection(text):
        raise UnsupportedUrl
    match = _LINK.fullmatch(text)
    if match is None or _BROKEN_ESCAPE.search(text):
        raise UnsupportedUrl
    host = match["host"].lower().removesuffix(".")
    path = match["path"] or "/"
    if host in _SHORT_HOSTS:
        return _only_segment(path)
    if host in _WATCH_HOSTS:
        return _from_watch_host(path, match["query"] or "")
    raise UnsupportedUrl


def canonical_link(video_id: VideoId) -> str:
    """Return the one spelling of a link that this service shows to clients and gives to yt-dlp."""
    return f"https://www.youtube.com/watch?v={video_id}"


def _from_watch_host(path: str, query: str) -> VideoId:
    segments = path.removesuffix("/").split("/")[1:]
    match segments:
        case ["watch" | "watch_popup"]:
            return _from_query(query)
        case [folder, candidate] if folder in _ID_FOLDERS:
            if candidate in _NOT_IDS:
                raise NotAVideo
            return _valid(unquote(candidate))
    if _NOT_A_VIDEO.fullmatch(path):
        raise NotAVideo
    raise UnsupportedUrl


def _from_query(query: str) -> VideoId:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise UnsupportedUrl from None
    candidates = {value for name, value in pairs if name == "v"}
    if not candidates:
        raise NotAVideo
    # With two different ids, parsers disagree on which one is meant.
    if len(candidates) > 1:
        raise UnsupportedUrl
    return _valid(candidates.pop())


def _only_segment(path: str) -> VideoId:
    segments = path.removesuffix("/").split("/")[1:]
    match segments:
        case [] | [""]:
            raise NotAVideo
        case [candidate]:
            return _valid(unquote(candidate))
        case _:
            raise UnsupportedUrl


def _valid(candidate: str) -> VideoId:
    if _VIDEO_ID.fullmatch(candidate) is None:
        raise UnsupportedUrl
    return VideoId(candidate)
