"""Bounds the size of response bodies, so that a huge page gives a clear error.

yt-dlp reads pages, player responses and playlists as a whole, and decompresses them as a whole, whatever their size.
Without this bound, the child process would be killed by its memory limit and could not say why. Media are read in
blocks into a file with a size limit of its own: reads with a size pass through unchanged.
"""

import io
import urllib.request
import urllib.response
import zlib
from http.client import HTTPResponse
from typing import Final, cast

from yt_dlp.networking.exceptions import RequestError

MAX_RESPONSE_BYTES: Final = 32 * 2**20
"""Largest body, decompressed: about twenty times the longest page of YouTube, and a small part of the child's
memory."""

ENCODINGS: Final = "gzip, deflate"
"""What is asked for in Accept-Encoding: the encodings that `decompress` knows."""

_GZIP: Final = 16 + zlib.MAX_WBITS


class ResponseTooLargeError(RequestError):  # type: ignore[misc]
    """A body is larger than MAX_RESPONSE_BYTES.

    Not one of yt-dlp's network errors, so that yt-dlp does not retry. The text is classified as an upstream error.
    """

    def __init__(self) -> None:
        super().__init__(f"unable to download: a response of more than {MAX_RESPONSE_BYTES} bytes")


class BoundedResponses(urllib.request.BaseHandler):
    """Runs before yt-dlp's own handler, which would decompress without a bound."""

    handler_order = 400  # yt-dlp's is 500

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Ask for encodings that `decompress` knows, whatever other decoders yt-dlp has found."""
        if request.get_header("Accept-encoding") not in {None, "identity"}:
            request.add_header("Accept-encoding", ENCODINGS)
        return request

    def https_response(self, _: urllib.request.Request, response: HTTPResponse) -> HTTPResponse:
        """Return the response decompressed, or with a `read()` that raises for a body that is too large.

        Raises:
            ResponseTooLargeError: the decompressed body is too large.
            zlib.error, EOFError: the compressed body is broken.
        """
        names = [name.strip().lower() for name in response.headers.get("Content-Encoding", "").split(",")]
        encodings = [name for name in names if name not in {"", "identity"}]
        read = response.read

        def read_at_most(size: int | None = None) -> bytes:
            if size is not None:
                return read(size)
            if response.length is None:
                # Chunked, or until the connection ends; a body that is cut short still raises.
                content = read(MAX_RESPONSE_BYTES + 1)
                return _within(content)
            if response.length > MAX_RESPONSE_BYTES:
                raise ResponseTooLargeError
            return read()

        response.read = read_at_most  # type: ignore[method-assign,assignment]
        return _decompressed(response, encodings) if encodings else response


def _decompressed(response: HTTPResponse, encodings: list[str]) -> HTTPResponse:
    content = response.read()
    for name in reversed(encodings):
        content = decompress(content, name)
    for header in ("Content-Encoding", "Content-Length"):
        del response.headers[header]
    decompressed = urllib.response.addinfourl(io.BytesIO(content), response.headers, response.url, response.status)
    decompressed.msg = response.msg  # type: ignore[attr-defined]
    return cast("HTTPResponse", decompressed)


def decompress(content: bytes, encoding: str) -> bytes:
    """Undo one content encoding (RFC 9110, section 8.4.1).

    Raises:
        ResponseTooLargeError: the result is larger than any body may be.
        zlib.error, EOFError: the content is not in this encoding, or incomplete.
    """
    match encoding:
        case "gzip" | "x-gzip":
            return _inflate(content, _GZIP)
        case "deflate":
            try:
                return _inflate(content, -zlib.MAX_WBITS)
            except zlib.error:
                return _inflate(content, zlib.MAX_WBITS)  # with a zlib header: RFC 9110, and some servers
        case _:
            raise EOFError("a response in an encoding that was not asked for")


def _inflate(content: bytes, window: int) -> bytes:
    if not content:
        return b""
    inflater = zlib.decompressobj(window)
    inflated = _within(inflater.decompress(content, MAX_RESPONSE_BYTES + 1))
    if not inflater.eof:
        raise EOFError("the response ends too early")
    return inflated


def _within(content: bytes) -> bytes:
    if len(content) > MAX_RESPONSE_BYTES:
        raise ResponseTooLargeError
    return content
