"""yt-dlp as this service configures it."""

import contextlib
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from importlib import metadata as packages
from typing import Any, Final, cast
from urllib.parse import urlsplit

from yt_dlp import YoutubeDL
from yt_dlp.globals import supported_js_runtimes
from yt_dlp.networking import Request, RequestDirector, Response
from yt_dlp.networking._helper import create_connection
from yt_dlp.networking._urllib import UrllibRH
from yt_dlp.utils import ContentTooShortError, YoutubeDLError

from ytmp3.converter.youtube.addresses import is_public
from ytmp3.converter.youtube.answers import BoundedAnswers
from ytmp3.converter.youtube.connecting import connect_to_first
from ytmp3.converter.youtube.news import Preload

SOCKET_TIMEOUT_SECONDS: Final = 20


RETRIES: Final = 3


BLOCK_BYTES: Final = 64 * 1024
"""Read at once, and so the unit of news. yt-dlp's own growing blocks (to 4 MiB) would hide a slow drip from us."""


MESSAGE_CHARACTERS: Final = 2000


MAX_WARNINGS: Final = 20


# Plain files first: they are one request and can be resumed. Segments (HLS) only where YouTube offers nothing else.
FORMAT: Final = (
    "bestaudio[protocol=https]/best[protocol=https][acodec!=none]/bestaudio[protocol=m3u8_native]"
    "/best[protocol=m3u8_native][acodec!=none]"
)


HOSTS: Final = frozenset(
    {"youtube.com", "youtube-nocookie.com", "youtubei.googleapis.com", "googlevideo.com", "ytimg.com", "ggpht.com"}
)
"""Where an extraction or a download may lead: a redirect anywhere else, perhaps into our own network, is not taken."""


def options(preload: Preload) -> dict[str, Any]:
    """Return the frozen options of every extraction. `cookiefile` is set later, to a private copy."""
    return {
        "allowed_extractors": [r"^youtube$"],
        "cachedir": False,
        "color": {"stdout": "no_color", "stderr": "no_color"},
        "continuedl": True,
        "cookiefile": None,
        "extractor_retries": 1,
        "fixup": "never",
        "format": FORMAT,
        "fragment_retries": RETRIES,
        "geo_bypass": False,
        "hls_prefer_native": True,
        "ignoreerrors": False,
        "js_runtimes": {"deno": {"path": preload.deno_path}},
        "buffersize": BLOCK_BYTES,
        "noresizebuffer": True,
        "nopart": True,
        "noplaylist": True,
        "noprogress": True,
        "outtmpl": {"default": "spool"},
        "overwrites": True,
        "postprocessors": [],
        "proxy": preload.egress_proxy,
        "quiet": True,
        "remote_components": [],
        "retries": RETRIES,
        "skip_unavailable_fragments": False,
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "updatetime": False,
        "usenetrc": False,
    }


class StartedOverError(YoutubeDLError):  # type: ignore[misc]
    """The download began anew, and wrote the whole behind the half that it had.

    yt-dlp (2026.10.26) does so where the whole is sent for a rest that it asks for with its file still open. The sound
    would be too long by what came before the cut, which may be less than the tolerance.
    """


class _Downloader(YoutubeDL):  # type: ignore[misc]
    """A YoutubeDL whose only way out is urllib with the preloaded TLS context."""

    def __init__(self, params: dict[str, Any], tls: Any, deno: Any) -> None:
        self._preloaded_tls = tls
        self.warnings: list[str] = []
        self._last_place = ""
        self._times_asked = 0
        super().__init__(params)
        # A cached property of yt-dlp, filled: it would start the runtime for its version in every conversion.
        self.__dict__["_js_runtimes"] = {"deno": deno}

    def urlopen(self, request: Any) -> Response:
        """Ask, but not for the same place of the same file for ever.

        yt-dlp takes a piece that ends early for a finished piece and asks for the next one: with a server that sends
        nothing more, 300 times a second and without end (measured; 2026.10.26, downloader/http.py, NextFragment).
        """
        if isinstance(request, Request) and (span := request.headers.get("Range")):
            place = f"{request.url} {span.partition('-')[0]}"
            self._times_asked = self._times_asked + 1 if place == self._last_place else 1
            self._last_place = place
            if self._times_asked > RETRIES + 1:
                raise ContentTooShortError(0, 1)
        return super().urlopen(request)

    def report_warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Keep the first ones: yt-dlp's last words often say less ("no player response") than they (HTTP 429)."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(str(message)[:MESSAGE_CHARACTERS])
        super().report_warning(message, *args, **kwargs)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        """Use urllib only, whatever other HTTP libraries happen to be installed."""
        director = super().build_request_director([UrllibRH])
        handler = director.handlers["Urllib"]
        handler._make_sslcontext = lambda legacy_ssl_support=None: self._preloaded_tls  # noqa: ARG005, SLF001  yt-dlp has no public hook
        make_opener = handler._create_instance  # noqa: SLF001  yt-dlp has no public hook

        def make_guarded_opener(**settings: Any) -> urllib.request.OpenerDirector:
            opener: urllib.request.OpenerDirector = make_opener(**settings)
            opener.add_handler(_YoutubeOnly())
            opener.add_handler(BoundedAnswers())
            return opener

        handler._create_instance = make_guarded_opener  # noqa: SLF001  yt-dlp has no public hook
        return director


class _YoutubeOnly(urllib.request.BaseHandler):
    """Lets a request go to YouTube's hosts over TLS only. urllib asks it again for every hop of a redirect."""

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        if not is_youtube_address(request.full_url):
            # Worded like what YouTube's own refusal gives, so that it is classified as one.
            raise urllib.error.URLError("redirected away from YouTube: HTTP Error 403: Forbidden")
        return request

    http_request = ftp_request = https_request


def is_youtube_address(url: str) -> bool:
    """Whether a request may go there: https, the usual port, a host of YouTube's."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return (
        parts.scheme == "https"
        and parts.port in {None, 443}
        and any(host == known or host.endswith(f".{known}") for known in HOSTS)
    )


def public_only(resolve: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Return `resolve` without the addresses that are not out on the Internet, whoever answers for a name.

    yt-dlp asks once for each connection, and connects to what this returns: there is no second answer to slip in.
    """

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> list[Any]:
        answers = [answer for answer in resolve(host, *arguments, **options) if is_public(answer[4][0])]
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "name resolution gave no public address")
        return answers

    return getaddrinfo


def _connect(
    address: tuple[str, int], timeout: float, source_address: tuple[str, int] | None = None, **socks: Any
) -> socket.socket:
    """Stand in for yt-dlp's `create_connection`, which waits for a dead address as long as for an answer."""
    if socks:
        # Its socket speaks to the proxy before it counts as connected: one address after the other.
        return cast("socket.socket", create_connection(address, timeout, source_address, **socks))
    return connect_to_first(socket.getaddrinfo(*address, 0, socket.SOCK_STREAM), timeout)


def _known_runtime(path: str | None) -> Any:
    runtime = supported_js_runtimes.value["deno"](path=path)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _ = runtime.info
    return runtime


def _package_version(name: str) -> str | None:
    try:
        return packages.version(name)
    except packages.PackageNotFoundError:
        return None


def _wanted_ejs_version() -> str | None:
    try:
        from yt_dlp.extractor.youtube.jsc._builtin.vendor import _info  # noqa: PLC0415  internal: may move away
    except ImportError:
        return None
    return str(_info.VERSION)
