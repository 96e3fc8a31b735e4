"""Playlists: pages of 100 entries, and the kinds of lists that yt-dlp meets.

The id says the kind and the number of entries: `PLordinary-0250` has 250. Entries are videos of the kind SHORT.
"""

import json
import re
from typing import Any, Final

from aiohttp import web

from .kinds import Kind, video_id
from .responses import as_json

PAGE_ENTRIES: Final = 100
_LIST: Final = re.compile(r"PL(ordinary|private|endless|changing|missing|broken)-([0-9]{4})")
_TITLES: Final = {1: "[Private video]", 2: "[Deleted video]"}
"""In a list of the kind `private`: the titles of the entries whose number, divided by 5, leaves this remainder."""


def list_id(kind: str, entries: int = 0) -> str:
    return f"PL{kind}-{entries:04d}"


def entry_id(number: int) -> str:
    """Return the video of an entry."""
    return video_id(Kind.SHORT, number)


async def page(request: web.Request) -> web.Response:
    """GET /playlist."""
    data = _first(request.query.get("list", ""))
    body = (
        b'<!doctype html><title>list</title><script>ytcfg.set({"INNERTUBE_CONTEXT":{"client":{"clientName":"WEB",'
        b'"clientVersion":"2.20260708.00.00"}}});</script><script>var ytInitialData = ' + as_json(data) + b";</script>"
    )
    return web.Response(body=body, content_type="text/html", charset="utf-8")


async def browse(request: web.Request) -> web.Response:
    """POST /youtubei/v1/browse: the first page again, or the next one."""
    query = json.loads(await request.read())
    token = query.get("continuation")
    if token is None:
        return web.json_response(_first(str(query.get("browseId", "")).removeprefix("VL")))
    name, _, start = str(token).rpartition(":")
    if name.startswith("PLbroken"):
        return web.Response(status=500)
    items = _entries(name, int(start))
    return web.json_response(
        {"onResponseReceivedActions": [{"appendContinuationItemsAction": {"continuationItems": items}}]}
    )


def _first(name: str) -> dict[str, Any]:
    match = _LIST.fullmatch(name)
    if match is None or match[1] == "missing":
        text = {"runs": [{"text": "The playlist does not exist."}]}
        return {"contents": {}, "alerts": [{"alertRenderer": {"type": "ERROR", "text": text}}]}
    videos = {"playlistVideoListRenderer": {"contents": _entries(name, 0), "playlistId": name}}
    content = {"sectionListRenderer": {"contents": [{"itemSectionRenderer": {"contents": [videos]}}]}}
    tab = {"tabRenderer": {"selected": True, "content": content}}
    return {
        "contents": {"twoColumnBrowseResultsRenderer": {"tabs": [tab]}},
        "metadata": {"playlistMetadataRenderer": {"title": f"List {match[1]} \u202e☃"}},
    }


def _entries(name: str, start: int) -> list[dict[str, Any]]:
    match = _LIST.fullmatch(name)
    assert match is not None
    kind, count = match[1], int(match[2])
    # While it is read, a new video is put on top of a list of the kind `changing`: each page repeats an entry.
    first = max(0, start - (kind == "changing"))
    end = first + PAGE_ENTRIES if kind == "endless" else min(count, first + PAGE_ENTRIES)
    entries = [_entry(number, kind) for number in range(first, end)]
    if end < count or kind == "endless":
        command = {"continuationCommand": {"token": f"{name}:{end}", "request": "CONTINUATION_REQUEST_TYPE_BROWSE"}}
        entries.append({"continuationItemRenderer": {"continuationEndpoint": command}})
    return entries


def _entry(number: int, kind: str) -> dict[str, Any]:
    title = _TITLES.get(number % 5) if kind == "private" else None
    renderer: dict[str, Any] = {
        "videoId": entry_id(number),
        "title": {"runs": [{"text": title or f"Entry {number}"}]},
        "index": {"simpleText": str(number + 1)},
    }
    if title is None:
        renderer |= {"lengthSeconds": "4", "isPlayable": True}
    return {"playlistVideoRenderer": renderer}
