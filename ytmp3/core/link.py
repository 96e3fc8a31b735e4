"""A YouTube link in any public spelling becomes its 11-character video id; everything else is refused.

Pure. The rule: only the id travels further, so no byte of the client's text reaches a tool, a file name or a query.
The host list is exact: a sub-domain, a look-alike, a port or userinfo is refused (reliability facts 3.1, A001-A065).
"""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

from ytmp3.core.errors import NotAVideo, UnsupportedUrl
from ytmp3.core.ids import VideoId

MAX_LINK_CHARACTERS: Final = 2048
"""The customary ceiling of browsers and proxies; no real link comes near it."""

_VIDEO_ID: Final = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_LINK: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.ASCII | re.IGNORECASE,
)
_PRINTABLE: Final = re.compile(r"[!-~]+", re.ASCII)
# Characters that no link holds unescaped (RFC 3986) and that a shell, a log or a second parser could read otherwise.
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
# Of an id's form, but names of a playlist's and of a channel's player ("embed/live_stream?channel=...").
_NO_IDS: Final = frozenset({"videoseries", "live_stream"})
# Spellings that YouTube itself gives out for things other than one video.
_OTHER_THINGS: Final = re.compile(
    r"/(?:@[^/]+|playlist|channel|c|user|results|feed|hashtag|gaming|clip|post|shorts|live|browse|explore)?(?:/.*)?"
)


def parse_video_id(link: str) -> VideoId:
    """Return the 11-character video id that `link` names.

    Raises:
        NotAVideo: a YouTube link, but to a channel, a playlist, a search or the like.
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
    """Return the one spelling this service shows and hands to yt-dlp."""
    return f"https://www.youtube.com/watch?v={video_id}"


def _from_watch_host(path: str, query: str) -> VideoId:
    segments = path.removesuffix("/").split("/")[1:]
    match segments:
        case ["watch" | "watch_popup"]:
            return _from_query(query)
        case [folder, candidate] if folder in _ID_FOLDERS:
            if candidate in _NO_IDS:
                raise NotAVideo
            return _valid(unquote(candidate))
    if _OTHER_THINGS.fullmatch(path):
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
    # Two different ids: which one is meant differs from parser to parser.
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
