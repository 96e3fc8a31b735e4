"""yt-dlp as this service configures it: its options, and the few methods that are overridden.

The options are fixed and held by a test: only the YouTube extractors, no configuration files, no plugins, no cache, one
format with sound (`choice`), in a file whose name is ours.
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from yt_dlp import YoutubeDL
from yt_dlp.networking import Request, RequestDirector, Response
from yt_dlp.networking._urllib import UrllibRH
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.utils import ContentTooShortError, YoutubeDLError

from ytmp3.converter.youtube.choice import Wanted, best_of
from ytmp3.converter.youtube.egress import YoutubeOnly
from ytmp3.converter.youtube.events import Preload
from ytmp3.converter.youtube.evidence import Evidence
from ytmp3.converter.youtube.patches import forget_solutions, use_in_handler, use_js_runtime
from ytmp3.converter.youtube.responses import BoundedResponses
from ytmp3.converter.youtube.signs import sign_of_debug, sign_of_status, sign_of_transport, sign_of_warning
from ytmp3.converter.youtube.solver_client import SolverClient
from ytmp3.converter.youtube.token_provider import TokenClient

SOCKET_TIMEOUT_SECONDS: Final = 20
"""Longest wait for a connection and for each read from it: yt-dlp's own default."""

RETRIES: Final = 3
"""How often yt-dlp repeats a failed request of a download, or of a fragment, before it gives up."""

BLOCK_BYTES: Final = 64 * 1024
"""How much yt-dlp reads at once, and so how often it reports progress. Its own blocks grow up to 4 MiB, which would
hide a very slow transfer from the server's checks."""

MESSAGE_CHARACTERS: Final = 2000
"""Longest message of yt-dlp that is passed on to the server."""


def options(preload: Preload) -> dict[str, Any]:
    """Return the fixed options of every extraction. `cookiefile` is set later, to a conversion's own copy.

    There is no `format`: `Downloader` chooses.
    """
    return {
        "allowed_extractors": [r"^youtube$"],
        "cachedir": False,
        "color": {"stdout": "no_color", "stderr": "no_color"},
        "continuedl": True,
        "cookiefile": None,
        "extractor_args": {"youtube": {key: list(values) for key, values in preload.extractor_args.items()}},
        "extractor_retries": 1,
        "fixup": "never",
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
    """The download started over inside its file: the complete media were appended to the part that was there already.

    yt-dlp (2026.10.26) does this when a server answers a Range request with the whole file (200 instead of 206) while
    the file is still open. The sound would be longer by that part, which can be less than the tolerated difference.
    """


class Downloader(YoutubeDL):  # type: ignore[misc]
    """A YoutubeDL whose only way to the network is urllib, with the shared TLS context and our guards."""

    def __init__(self, params: dict[str, Any], tls: Any, deno: Any) -> None:
        self._tls = tls
        self.evidence = Evidence()
        self.wanted = Wanted()
        self.solver: SolverClient | None = None
        """Set in a forked child: asked before yt-dlp starts deno."""
        self.tokens: TokenClient | None = None
        """Set in a forked child where the server has a provider of proof-of-origin tokens."""
        self._last_position = ""
        self._requests_of_position = 0
        super().__init__({**params, "format": self._choose})
        use_js_runtime(self, deno)

    def urlopen(self, request: Any) -> Response:
        """Send a request, unless it asks for the same position of the same file over and over.

        yt-dlp takes a fragment that ends early for a complete one and asks for the next. Of a server that sends nothing
        more it asks 300 times a second, without end (measured; 2026.10.26, downloader/http.py, NextFragment).

        Raises:
            ContentTooShortError: this position was asked for too often.
            RequestError: as yt-dlp's own method; what it was is recorded in `evidence`.
        """
        if isinstance(request, Request) and (span := request.headers.get("Range")):
            position = f"{request.url} {span.partition('-')[0]}"
            self._requests_of_position = self._requests_of_position + 1 if position == self._last_position else 1
            self._last_position = position
            if self._requests_of_position > RETRIES + 1:
                raise ContentTooShortError(0, 1)
        url = request if isinstance(request, str) else request.url
        try:
            response: Response = super().urlopen(request)
        except HTTPError as error:
            self.evidence.refused(url, sign_of_status(error.status))
            if error.status == HTTPStatus.FORBIDDEN and self.solver is not None and self.solver.link_refused(url):
                forget_solutions(self)
            raise
        except RequestError as error:
            self.evidence.unanswered(url, sign_of_transport(f"{error} {error.cause!r}"))
            raise
        self.evidence.answered(url)
        return response

    def _choose(self, context: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Yield the format to download; yt-dlp calls it with the formats in its order of quality."""
        best = best_of(context["formats"], self.wanted)
        if best is not None:
            yield best

    def report_warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Record the kind of each warning: it often says more (HTTP 429) than the final error."""
        self.evidence.warned(sign_of_warning(str(message)[:MESSAGE_CHARACTERS]))
        super().report_warning(message, *args, **kwargs)

    def write_debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Record that formats were left out, which yt-dlp says of its default clients in a debug message only."""
        sign = sign_of_debug(str(message)[:MESSAGE_CHARACTERS])
        if sign is not None:
            self.evidence.warned(sign)
        super().write_debug(message, *args, **kwargs)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        """Use urllib only, whatever other HTTP libraries are installed."""
        director = super().build_request_director([UrllibRH])
        use_in_handler(director.handlers["Urllib"], self._tls, (YoutubeOnly, BoundedResponses))
        return director
