"""Sending a track: judged by `conditions`, then by the kernel (`sendfile`), or by nginx (`X-Accel-Redirect`)."""

import asyncio
import contextlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web

from ytmp3.core.errors import ClientQuota
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Metadata, Track
from ytmp3.core.recipe import EXTENSIONS, Recipe
from ytmp3.http.conditions import Conditions, Entity, Failed, Part, Unchanged, Unsatisfiable, Verdict, judge
from ytmp3.http.errors import PreconditionFailed, RangeNotSatisfiable, TooManyDownloads, TrackGone

MAX_TRANSFERS: Final = 200
"""Without nginx in front, each reader holds two descriptors and a socket buffer (goal H05)."""
BUSY_RETRY_SECONDS: Final = 5
PIECE_BYTES: Final = 256 * 1024
STALL_SECONDS: Final = 60.0
"""A reader that does not take a piece in this time (4 kB/s) is cut: it holds a descriptor (goal H06)."""

_JUDGED_BY_NGINX: Final = frozenset({hdrs.IF_MATCH, hdrs.IF_UNMODIFIED_SINCE})
"""nginx judges these once more: If-Match before it knows our tag, and a date that is none (to be ignored, RFC 9110,
section 13.1.4) as one long past. It would answer 412 to what is right."""
_MISREAD_BY_NGINX: Final = re.compile(r"[0-9]{19}|\t|[=,] *,|, *\Z", re.ASCII)
"""In a range: a long number, a tab, an empty element (section 5.6.1). It would answer 416."""


def entity_of(track: Track) -> Entity:
    """Return the track as HTTP sees it: the tag is the content's hash, so it is the same on every instance."""
    return Entity(etag=f'"{track.sha256}"', modified_at=int(track.published_at), size_bytes=track.size_bytes)


def conditions_of(request: web.Request) -> Conditions:
    """Return the header fields that the answer depends on. Lists may come in several fields."""
    headers = request.headers

    def joined(name: str) -> str | None:
        fields = headers.getall(name, ())
        return ", ".join(fields) if fields else None

    return Conditions(
        if_match=joined(hdrs.IF_MATCH),
        if_none_match=joined(hdrs.IF_NONE_MATCH),
        if_modified_since=headers.get(hdrs.IF_MODIFIED_SINCE),
        if_unmodified_since=headers.get(hdrs.IF_UNMODIFIED_SINCE),
        if_range=joined(hdrs.IF_RANGE),
        ranges=headers.getall(hdrs.RANGE, ()),
    )


class Sender:
    """Sends tracks from a folder. `count_bytes` hears what this process has sent itself.

    `client_max_downloads`: of one client at once; 0: no limit of its own.
    """

    def __init__(
        self,
        *,
        accel_prefix: str,
        client_max_downloads: int,
        path_of: Callable[[str], Path],
        count_bytes: Callable[[float], None],
    ) -> None:
        self._accel_prefix = accel_prefix
        self._client_max_downloads = client_max_downloads
        self._path_of = path_of
        self._count_bytes = count_bytes
        self.transfers: Counter[ClientId] = Counter()
        """Those under way in this process, by client; no client is in it without one."""

    @property
    def active(self) -> int:
        """Transfers under way in this process."""
        return self.transfers.total()

    async def send(
        self, request: web.Request, track: Track, metadata: Metadata, recipe: Recipe, client: ClientId
    ) -> web.StreamResponse:
        """Answer GET or HEAD for a finished track. `client` is who asks.

        Raises:
            PreconditionFailed, RangeNotSatisfiable
            TrackGone: the file is not there, or not the one that was verified.
            TooManyDownloads, ClientQuota
        """
        entity = entity_of(track)
        is_get = request.method == hdrs.METH_GET
        verdict = judge(entity, conditions_of(request), is_get=is_get)
        headers: dict[str, str] = {
            hdrs.ETAG: entity.etag,
            hdrs.LAST_MODIFIED: format_datetime(datetime.fromtimestamp(entity.modified_at, UTC), usegmt=True),
            hdrs.CACHE_CONTROL: "private, no-cache",
            hdrs.ACCEPT_RANGES: "bytes",
        }
        match verdict:
            case Failed():
                raise PreconditionFailed
            case Unsatisfiable():
                raise RangeNotSatisfiable(entity.size_bytes)
            case Unchanged():
                return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers[hdrs.CONTENT_TYPE] = recipe.media_type
        headers[hdrs.CONTENT_DISPOSITION] = content_disposition(metadata.title, recipe.extension)
        file = await asyncio.to_thread(_open, self._path_of(track.file_name), track.size_bytes)
        # nginx would answer a range also of HEAD, to which there is none (RFC 9110, section 14.2).
        if self._accel_prefix and is_get and _nginx_agrees(request.headers):
            os.close(file)
            headers["X-Accel-Redirect"] = self._accel_prefix + track.file_name
            return web.Response(headers=headers)
        try:
            with self._place(client) if is_get else contextlib.nullcontext():
                return await self._send(request, file, verdict, headers, size_bytes=track.size_bytes)
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _place(self, client: ClientId) -> Iterator[None]:
        """Hold a place among the transfers.

        Raises:
            TooManyDownloads, ClientQuota
        """
        if self._client_max_downloads and self.transfers[client] >= self._client_max_downloads:
            raise ClientQuota(
                "This client downloads as many tracks at once as it may.", retry_after_seconds=BUSY_RETRY_SECONDS
            )
        if self.active >= MAX_TRANSFERS:
            raise TooManyDownloads(retry_after_seconds=BUSY_RETRY_SECONDS)
        self.transfers[client] += 1
        try:
            yield
        finally:
            # Subtracting counters drops whoever is down to zero.
            self.transfers -= Counter((client,))

    async def _send(
        self, request: web.Request, file: int, verdict: Verdict, headers: dict[str, str], *, size_bytes: int
    ) -> web.StreamResponse:
        match verdict:
            case Part(first, last):
                headers[hdrs.CONTENT_RANGE] = f"bytes {first}-{last}/{size_bytes}"
                response = web.StreamResponse(status=HTTPStatus.PARTIAL_CONTENT, headers=headers)
            case _:
                first, last = 0, size_bytes - 1
                response = web.StreamResponse(headers=headers)
        response.content_length = last + 1 - first
        await response.prepare(request)
        if request.method == hdrs.METH_GET:
            await self._send_bytes(request, file, first, last + 1 - first)
        await response.write_eof()
        return response

    async def _send_bytes(self, request: web.Request, file: int, offset: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        with open(file, "rb", buffering=0, closefd=False) as source:  # noqa: ASYNC230  wraps an open descriptor
            while count > 0:
                if request.transport is None or request.transport.is_closing():
                    raise ConnectionResetError("the reader went away")
                piece = min(PIECE_BYTES, count)
                try:
                    async with asyncio.timeout(STALL_SECONDS):
                        sent = await loop.sendfile(request.transport, source, offset, piece)
                except TimeoutError:
                    request.transport.abort()
                    raise ConnectionResetError("the reader stalled") from None
                self._count_bytes(sent)
                if sent < piece:
                    # On a connection that stays, the next answer would be taken for the missing bytes.
                    request.transport.abort()
                    raise ConnectionResetError("the file was cut short")
                offset += sent
                count -= sent


def _nginx_agrees(headers: Mapping[str, str]) -> bool:
    """Whether nginx, which judges a request once more, comes to our verdict."""
    return not any(name in headers for name in _JUDGED_BY_NGINX) and not _MISREAD_BY_NGINX.search(
        headers.get(hdrs.RANGE, "")
    )


def _open(path: Path, size_bytes: int) -> int:
    """Open a track's file, if it is the size that was recorded."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        raise TrackGone("expired", "The track is no longer kept.") from None
    if os.fstat(file).st_size != size_bytes:
        os.close(file)
        raise TrackGone("expired", "The track is no longer kept.")
    return file


MAX_NAME_BYTES: Final = 150
"""Of a download's file name, extension included: file systems stop at 255, some tools earlier (goal S16)."""


_MAX_STEM_BYTES: Final = MAX_NAME_BYTES - max(len(f".{extension}") for extension in EXTENSIONS)


_UNSAFE_IN_NAMES: Final = re.compile(r'["\\/:*?<>|%;\x00-\x1f\x7f-\x9f]')


def content_disposition(title: str, extension: str) -> str:
    """Return a header for a download named after the title: ASCII fallback (RFC 6266) and UTF-8 (RFC 8187)."""
    name = _file_name(title)
    fallback = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    # Taking characters apart can make them longer, so this is cut too.
    fallback = re.sub(r"[^A-Za-z0-9 ._()&+,=@~!-]", "", fallback)[:_MAX_STEM_BYTES].strip(" .") or "track"
    return f"attachment; filename=\"{fallback}.{extension}\"; filename*=UTF-8''{quote(name, safe='')}.{extension}"


def _file_name(title: str) -> str:
    # "C": control, format (bidi and zero-width too), surrogate, private and unassigned characters.
    visible = "".join(c for c in unicodedata.normalize("NFC", title) if unicodedata.category(c)[0] != "C" or c == "\t")
    name = re.sub(r"\s+", " ", _UNSAFE_IN_NAMES.sub(" ", visible)).strip(" .")
    name = name.encode()[:_MAX_STEM_BYTES].decode(errors="ignore").strip(" .")
    return name or "track"
