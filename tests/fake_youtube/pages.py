"""Pages of YouTube, as far as yt-dlp's real extractor reads them.

A light page keeps the extraction quick and free of warnings: it holds `STS` and `PLAYER_JS_URL`, so no player script is
fetched for a signature timestamp; its initial data has `contents`, so the API is not asked for them. A heavy page has
the size of YouTube's, and the web client's formats without links.
"""

import zlib
from typing import Any, Final

from . import heavy
from .asked import Asked
from .behaviour import Client, Links
from .player import Player
from .responses import CHANNEL, as_json, author_of, player_response

CLIENT_VERSION: Final = "2.20260708.00.00"
_NUMBERS: Final = {
    Client.WEB: 1,
    Client.MWEB: 2,
    Client.TV: 7,
    Client.WEB_EMBEDDED: 56,
    Client.WEB_MUSIC: 67,
    Client.WEB_CREATOR: 62,
}
_FOR_KIDS: Final = b"<div>This video is made for kids</div>"


def _configuration(client: Client, player: Player, visitor: str, *, is_heavy: bool = False) -> bytes:
    """Return the call of `ytcfg.set` that tells a client its name, its guest session and its player script."""
    context = {"clientName": client.value, "clientVersion": CLIENT_VERSION, "hl": "en", "gl": "US"}
    settings: dict[str, Any] = {
        "INNERTUBE_CONTEXT": {"client": {**context, "visitorData": visitor}},
        "INNERTUBE_CONTEXT_CLIENT_NAME": _NUMBERS.get(client, 1),
        "INNERTUBE_CLIENT_VERSION": CLIENT_VERSION,
        "VISITOR_DATA": visitor,
        "STS": player.timestamp,
        "PLAYER_JS_URL": player.path,
    }
    if is_heavy:
        settings["EXPERIMENT_FLAGS"] = heavy.flags()
    return b"<script>ytcfg.set(" + as_json(settings) + b");</script>"


def config_page(client: Client, player: Player, visitor: str) -> bytes:
    """Return a page from which yt-dlp takes the configuration of one client."""
    return b"<!doctype html><title>config</title>" + _configuration(client, player, visitor)


def initial_data(asked: Asked) -> dict[str, Any]:
    """Return what stands around the player: here is where yt-dlp finds the uploader."""
    channel = {"browseId": CHANNEL, "canonicalBaseUrl": "/@fake"}
    author = author_of(asked.identifier)
    owner = {
        "title": {"runs": [{"text": author, "navigationEndpoint": {"browseEndpoint": channel}}]},
        "navigationEndpoint": {"browseEndpoint": channel},
    }
    contents = [{"videoSecondaryInfoRenderer": {"owner": {"videoOwnerRenderer": owner}}}]
    results: dict[str, Any] = {"results": {"results": {"contents": contents}}}
    if asked.is_heavy:
        results["secondaryResults"] = {"secondaryResults": {"results": heavy.related()}}
    return {"contents": {"twoColumnWatchNextResults": results}, **_player_bar(asked)}


def _player_bar(asked: Asked) -> dict[str, Any]:
    """Return the part of the initial data with the chapters of the video, if it has any."""
    chapters = [
        {"chapterRenderer": {"title": {"simpleText": title}, "timeRangeStartMillis": start}}
        for start, title in asked.behaviour.chapters
    ]
    if not chapters:
        return {}
    bar = {"decoratedPlayerBarRenderer": {"playerBar": {"chapteredPlayerBarRenderer": {"chapters": chapters}}}}
    return {"playerOverlays": {"playerOverlayRenderer": {"decoratedPlayerBarRenderer": bar}}}


def watch_page(asked: Asked, visitor: str) -> tuple[bytes, bool]:
    """Return the watch page, and whether it is packed with gzip."""
    with_streams = asked.links is Links.SABR
    response = player_response(asked, sizes={}, now=0.0, visitor=visitor, with_streams=with_streams)
    head = b"".join(
        (
            b"<!doctype html><html><head><title>",
            asked.identifier.encode("ascii", "replace"),
            b"</title>",
            _configuration(Client.WEB, asked.player, visitor, is_heavy=asked.is_heavy),
        )
    )
    tail = b"".join(
        (
            b"</head><body>",
            _FOR_KIDS if asked.behaviour.for_kids else b"",
            b"<script>var ytInitialPlayerResponse = ",
            response,
            b";</script><script>var ytInitialData = ",
            as_json(initial_data(asked)),
            b";</script></body></html>",
        )
    )
    return (heavy.packed_page(head, tail), True) if asked.is_heavy else (head + tail, False)


def bomb(size_bytes: int) -> bytes:
    """Return so many spaces as gzip, a thousandth of their size. Each block after the first is a copy of it."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
    return head + block * (size_bytes // 2**20) + packer.flush()
