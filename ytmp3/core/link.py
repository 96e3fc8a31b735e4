"""Extracts the 11-character video id from a YouTube link, in any spelling that people paste. Pure.

The rule: the rest of the service gets only the id. No other byte of the client's text reaches a tool, a file name, a
query or the network, so a link cannot name another host, an option of yt-dlp or a shell command. The parser therefore
tolerates errors around the id: white space, brackets, a missing scheme, `&` for `?`. It is strict where the choice of
the video is in doubt. Hosts must be in an exact list, because a look-alike name, a user name or a port may mislead a
person or a parser. An id of the wrong length, or a second and different id, is refused.

Each refusal says what is wrong, and repeats no part of the text.
"""

import re
from typing import Final
from urllib.parse import unquote

from msgspec import Struct

from ytmp3.core.cut import parse_position
from ytmp3.core.errors import NotAVideo, UnsupportedUrl
from ytmp3.core.ids import VideoId

MAX_LINK_CHARACTERS: Final = 2048
"""Longest accepted link, in characters. Many browsers and proxies have this limit; real links are far shorter."""
MAX_WRAPPERS: Final = 3
"""Most redirecting links that may be nested around a video's link. Real links have one or two, such as a mail filter
around a consent page."""

_VIDEO_ID: Final = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_LEADING: Final = " \t\r\n\f\v\u00a0\u2003\u2007\u202f\u200b\u200e\u200f\u2060\ufeff<([{\"'`\u00ab\u2018\u201c\u201e"
"""Characters that may precede a link in text and messengers: white space, invisible marks, brackets, quotes."""
_TRAILING: Final = _LEADING + ">)]}.,;:!?\u2026\u00bb\u2019\u201d"
"""Characters that may follow a link in a sentence."""
_INNER_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_SCHEME: Final = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?//", re.ASCII)
_AUTHORITY: Final = re.compile(r"([A-Za-z0-9.-]+?)\.?(?::(?:80|443)?)?", re.ASCII)
"""A host, with an optional trailing dot (a rooted name) and an optional default port, which some programs add."""
_SEPARATORS: Final = re.compile(r"[?&;]")
"""Separators of parameters. Links that were edited by hand or copied from HTML contain a second `?`, `&` without a
`?`, or `&amp;`. Old embedding code contains `;`."""

_SHORT_HOSTS: Final = frozenset({"youtu.be", "www.youtu.be"})
_WATCH_HOSTS: Final = _SHORT_HOSTS | {
    "youtube.com",
    "www.youtube.com",
    "m.youtube.com",
    "music.youtube.com",
    "gaming.youtube.com",
    "youtube-nocookie.com",
    "www.youtube-nocookie.com",
    "youtubekids.com",
    "www.youtubekids.com",
    "youtube.googleapis.com",
}
_ID_FOLDERS: Final = frozenset({"shorts", "embed", "live", "v", "e", "watch"})
# These have the form of an id, but name the players of a playlist and of a channel ("embed/live_stream?channel=...").
_NOT_IDS: Final = frozenset({"videoseries", "live_stream"})
# Paths of YouTube pages for channels, playlists, searches and the like.
_NOT_A_VIDEO: Final = re.compile(
    r"/(?:@[^/]+|playlist|channel|c|user|results|feed|hashtag|gaming|clip|post|shorts|live|browse|explore)?(?:/.*)?"
)

_NO_PLAYLISTS: Final = ("RD", "WL", "LL", "LM")
"""Beginnings of `list` that name no list of interest: mixes, which YouTube continues without end, and a person's own
lists ("watch later", "liked"), which only that person can open."""

_STARTS: Final = frozenset({"t", "start", "time_continue"})
"""Parameters with the position at which a player starts. Old links have `t` behind a `#`."""

_WRAPPERS: Final = {
    "attribution_link": ("u",),
    "redirect": ("q",),
    "signin": ("next",),
}
"""Pages of a YouTube host that lead to another link, and the parameters that may hold it."""
_GOOGLE: Final = re.compile(r"(?:(?:www|consent|accounts)\.)?google\.[a-z]{2,3}(?:\.[a-z]{2})?", re.ASCII)
"""Search results, consent and login pages of Google, in any country."""
_GOOGLE_NAMES: Final = ("continue", "q", "url")
_WRAPPING_HOSTS: Final = {
    "consent.youtube.com": ("continue",),
    "duckduckgo.com": ("uddg",),
    "l.facebook.com": ("u",),
    "lm.facebook.com": ("u",),
    "l.messenger.com": ("u",),
    "l.instagram.com": ("u",),
    "vk.com": ("to",),
    "steamcommunity.com": ("url", "u"),
}
"""Other hosts with redirecting links, and the parameters that may hold the target: chats and social networks that count
clicks or warn of links."""
_SAFE_LINKS_SUFFIX: Final = ".safelinks.protection.outlook.com"
"""Outlook replaces the links in mails by redirecting links. Their host names the reader's region and ends with this."""

_EXAMPLE: Final = "such as https://youtu.be/dQw4w9WgXcQ"
_TOO_LONG: Final = f"`url` is longer than {MAX_LINK_CHARACTERS} characters. Send only the link, {_EXAMPLE}."
_HOLDS_SPACE: Final = f"`url` has white space or a control character inside. Send one link alone, {_EXAMPLE}."
_HOLDS_BACKSLASH: Final = (
    "`url` has a backslash. Some shells add backslashes when a link is pasted: put the link in quotes."
)
_OTHER_SCHEME: Final = f"`url` must begin with https:// or http://, {_EXAMPLE}."
_OTHER_HOST: Final = (
    "`url` is not a link to YouTube. Accepted are youtube.com (also www., m., music.), youtu.be, youtube-nocookie.com "
    f"and youtubekids.com: {_EXAMPLE}."
)
_OTHER_PAGE: Final = f"`url` is a page of YouTube that names no video. Send the video's own link, {_EXAMPLE}."
_TWO_IDS: Final = "`url` names two different videos. Send the link of one."
_WRONG_CHARACTERS: Final = (
    "The video id in `url` may have letters of A to Z, digits, - and _ only, and has 11 of them: dQw4w9WgXcQ."
)
_PLAYLIST: Final = "This link names a playlist. Send it to POST /batches as `playlist`, or the link of one video here."


class Link(Struct, frozen=True):
    """What a link names."""

    video_id: VideoId
    has_playlist: bool = False
    """Whether the link also names a playlist that the video was opened from."""
    start_ms: int | None = None
    """Where the link starts the video (`t=`), in milliseconds; None if it does not say. Used only on request."""


def parse_video_id(link: str) -> VideoId:
    """Return the 11-character video id that `link` names; see `parse_link` for the errors."""
    return parse_link(link).video_id


def parse_link(link: str) -> Link:
    """Return what `link` names.

    Raises:
        NotAVideo: a YouTube link to a channel, a playlist, a search or the like.
        UnsupportedUrl: any other text. The error's text says what is wrong.
    """
    text = link.lstrip(_LEADING).rstrip(_TRAILING)
    if len(text) > MAX_LINK_CHARACTERS:
        raise UnsupportedUrl(_TOO_LONG)
    if _VIDEO_ID.fullmatch(text):
        return Link(VideoId(text))
    host, path, query = _address(text, wrappers=MAX_WRAPPERS)
    start = _start_ms(f"{query}&{text.partition('#')[2]}")
    return Link(_from_youtube(host, path, query), _has_playlist(query), start)


def youtube_page(link: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the path and the parameters of a link to a page of YouTube, for `playlist`.

    Raises:
        UnsupportedUrl: it is not such a link.
    """
    text = link.lstrip(_LEADING).rstrip(_TRAILING)
    if len(text) > MAX_LINK_CHARACTERS:
        raise UnsupportedUrl(_TOO_LONG)
    _, path, query = _address(text, wrappers=MAX_WRAPPERS)
    return unquote(path), [(name, unquote(value)) for name, value in _parameters(query)]


def canonical_link(video_id: VideoId) -> str:
    """Return the canonical link, which this service shows to clients and gives to yt-dlp."""
    return f"https://www.youtube.com/watch?v={video_id}"


def _address(text: str, *, wrappers: int) -> tuple[str, str, str]:
    """Return host, path and query of a link to YouTube. At most `wrappers` nested redirecting links are unwrapped."""
    if _INNER_SPACE.search(text):
        raise UnsupportedUrl(_HOLDS_SPACE)
    if "\\" in text:
        raise UnsupportedUrl(_HOLDS_BACKSLASH)
    host, rest = _split(text)
    path, query = _path_and_query(rest)
    inner = _wrapped(host, path, query)
    if inner is not None and wrappers > 0:
        return _address(inner, wrappers=wrappers - 1)
    if host not in _WATCH_HOSTS:
        raise UnsupportedUrl(_OTHER_HOST)
    return host, path, query


def _split(text: str) -> tuple[str, str]:
    """Split a link into its host, in lower case, and the rest."""
    scheme = _SCHEME.match(text)
    if scheme is not None:
        if (scheme[1] or "https").lower() not in {"https", "http"}:
            raise UnsupportedUrl(_OTHER_SCHEME)
        text = text[scheme.end() :]
    authority = re.split(r"[/?#]", text, maxsplit=1)[0]
    match = _AUTHORITY.fullmatch(authority)
    if match is None or "." not in match[1]:
        # A text with a slash was probably meant as a link, so the refusal names the accepted hosts.
        raise UnsupportedUrl(_OTHER_HOST if "/" in text else None)
    return match[1].lower(), text[len(authority) :]


def _path_and_query(rest: str) -> tuple[str, str]:
    rest = rest.partition("#")[0]
    separator = _SEPARATORS.search(rest)
    if separator is None:
        return rest or "/", ""
    return rest[: separator.start()] or "/", rest[separator.end() :]


def _wrapped(host: str, path: str, query: str) -> str | None:
    """Return the target of a redirecting link, or None if the link does not redirect."""
    for name in _names_of_inner_links(host, path):
        value = re.search(rf"(?:\A|[?&;]){name}=(.*)", query)
        if value is None:
            continue
        # A target that is not escaped extends to the end of the text, because it may have parameters of its own.
        is_escaped = not re.match(r"/|https?:/", value[1], re.IGNORECASE)
        inner = unquote(value[1].split("&", 1)[0]) if is_escaped else value[1]
        return f"https://www.youtube.com{inner}" if re.match(r"/[^/]", inner) else inner
    return None


def _names_of_inner_links(host: str, path: str) -> tuple[str, ...]:
    if host in _WATCH_HOSTS:
        return _WRAPPERS.get(path.strip("/"), ())
    if host.endswith(_SAFE_LINKS_SUFFIX):
        return ("url",)
    return _GOOGLE_NAMES if _GOOGLE.fullmatch(host) else _WRAPPING_HOSTS.get(host, ())


def _from_youtube(host: str, path: str, query: str) -> VideoId:
    segments = path.removesuffix("/").split("/")[1:]
    ids = {unquote(value) for name, value in _parameters(query) if name == "v"}
    match segments:
        case [] | ["watch" | "watch_popup"] if ids:
            # With two different ids, parsers disagree on which one is meant.
            if len(ids) > 1:
                raise UnsupportedUrl(_TWO_IDS)
            return _valid(ids.pop())
        case ["playlist"] | ["embed", "videoseries"]:
            raise NotAVideo(_PLAYLIST)
        case ["watch" | "watch_popup"]:
            raise NotAVideo(_PLAYLIST if any(name == "list" for name, _ in _parameters(query)) else None)
        case [folder, candidate] if folder in _ID_FOLDERS:
            if candidate in _NOT_IDS:
                raise NotAVideo
            return _valid(unquote(candidate))
        case [candidate] if candidate and host in _SHORT_HOSTS:
            return _valid(unquote(candidate))
    if path == "/" or (host not in _SHORT_HOSTS and _NOT_A_VIDEO.fullmatch(path)):
        raise NotAVideo
    raise UnsupportedUrl(_OTHER_PAGE)


def _has_playlist(query: str) -> bool:
    lists = {value for name, value in _parameters(query) if name == "list"}
    return any(value and not value.startswith(_NO_PLAYLISTS) for value in lists)


def _start_ms(query: str) -> int | None:
    """Return the first valid position among the parameters."""
    values = (unquote(value) for name, value in _parameters(query) if name in _STARTS)
    return next((position for value in values if (position := parse_position(value)) is not None), None)


def _parameters(query: str) -> list[tuple[str, str]]:
    parts = (part.partition("=") for part in _SEPARATORS.split(query))
    return [(unquote(name), value) for name, _, value in parts]


def _valid(candidate: str) -> VideoId:
    if _VIDEO_ID.fullmatch(candidate):
        return VideoId(candidate)
    if len(candidate) != 11:
        raise UnsupportedUrl(
            f"The video id in `url` has {len(candidate)} characters; it must have exactly 11, like dQw4w9WgXcQ."
        )
    raise UnsupportedUrl(_WRONG_CHARACTERS)
