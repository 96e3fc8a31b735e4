"""How much of an answer is read at once: the walls of the youtube child would end it with less to say.

yt-dlp reads pages, player answers and playlists whole, and unpacks them whole, whatever their size. Media it reads in
blocks, into a file whose size is limited elsewhere: those reads pass through unchanged.
"""

import io
import urllib.request
import urllib.response
import zlib
from http.client import HTTPResponse
from typing import Final, cast

from yt_dlp.networking.exceptions import RequestError

MAX_ANSWER_BYTES: Final = 32 * 2**20
"""Unpacked: some twenty times the longest page that YouTube sends, and a small part of the youtube child's memory."""

ENCODINGS: Final = "gzip, deflate"
_GZIP: Final = 16 + zlib.MAX_WBITS


class TooMuchError(RequestError):  # type: ignore[misc]
    """Not one of yt-dlp's network errors, so that it gives up at once; classified as an upstream error."""

    def __init__(self) -> None:
        super().__init__(f"unable to download: an answer of more than {MAX_ANSWER_BYTES} bytes")


class BoundedAnswers(urllib.request.BaseHandler):
    """Stands before yt-dlp's own handler, which would unpack without a bound."""

    handler_order = 400  # yt-dlp's is 500

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Ask for what can be unpacked here, whatever other decoders happen to be installed."""
        if request.get_header("Accept-encoding") not in {None, "identity"}:
            request.add_header("Accept-encoding", ENCODINGS)
        return request

    def https_response(self, _: urllib.request.Request, response: HTTPResponse) -> HTTPResponse:
        """Return the answer unpacked if it was packed, and else one that is not read whole if it is too long."""
        encodings = [name.strip().lower() for name in response.headers.get("Content-Encoding", "").split(",")]
        packings = [name for name in encodings if name not in {"", "identity"}]
        read = response.read

        def read_at_most(size: int | None = None) -> bytes:
            if size is not None:
                return read(size)
            if response.length is None:
                # Chunked, or to the end of the connection; what is cut short still raises.
                content = read(MAX_ANSWER_BYTES + 1)
                return _within(content)
            if response.length > MAX_ANSWER_BYTES:
                raise TooMuchError
            return read()

        response.read = read_at_most  # type: ignore[method-assign,assignment]
        return _unpacked(response, packings) if packings else response


def _unpacked(response: HTTPResponse, packings: list[str]) -> HTTPResponse:
    content = response.read()
    for name in reversed(packings):
        content = unpack(content, name)
    for header in ("Content-Encoding", "Content-Length"):
        del response.headers[header]
    answer = urllib.response.addinfourl(io.BytesIO(content), response.headers, response.url, response.status)
    answer.msg = response.msg  # type: ignore[attr-defined]
    return cast("HTTPResponse", answer)


def unpack(content: bytes, packing: str) -> bytes:
    """Unpack one layer.

    Raises:
        TooMuchError: it is longer than any answer may be.
        zlib.error, EOFError: it is no such thing, or half of one.
    """
    match packing:
        case "gzip" | "x-gzip":
            return _inflate(content, _GZIP)
        case "deflate":
            try:
                return _inflate(content, -zlib.MAX_WBITS)
            except zlib.error:
                return _inflate(content, zlib.MAX_WBITS)  # what the standard says, and some servers do
        case _:
            raise EOFError("an answer in an encoding that was not asked for")


def _inflate(content: bytes, window: int) -> bytes:
    if not content:
        return b""
    inflater = zlib.decompressobj(window)
    unpacked = _within(inflater.decompress(content, MAX_ANSWER_BYTES + 1))
    if not inflater.eof:
        raise EOFError("the answer ends too early")
    return unpacked


def _within(content: bytes) -> bytes:
    if len(content) > MAX_ANSWER_BYTES:
        raise TooMuchError
    return content
