"""Makes yt-dlp ask the server for proof-of-origin tokens, through its public interface for token providers.

yt-dlp (extractor/youtube/pot/provider.py) asks a provider when a player client needs a token. This one is skipped where
the server has no provider. The child itself never connects to one: its network is restricted to YouTube.
"""

import socket
import time

import msgspec
from yt_dlp.extractor.youtube.pot.provider import (
    PoTokenContext,
    PoTokenProvider,
    PoTokenProviderError,
    PoTokenProviderRejectedRequest,
    PoTokenRequest,
    PoTokenResponse,
    register_provider,
)
from yt_dlp.extractor.youtube.pot.utils import WEBPO_CLIENTS, get_webpo_content_binding

from ytmp3.converter.token_messages import MAX_LINE_BYTES, NoToken, Token, TokenWanted, decode_answer, encode
from ytmp3.converter.youtube.lines import read_line


class TokenClient:
    """The child's end of its connection to the server: blocking, with a time limit, and not again after a failure."""

    def __init__(self, descriptor: int, seconds: float) -> None:
        self._seconds = seconds
        self._socket = socket.socket(fileno=descriptor)
        self.is_usable = True
        """False after a failure: the connection may then hold half a message, or the provider is away."""

    def ask(self, wanted: TokenWanted) -> str:
        """Return a token. Raises OSError (also for a late answer) or ValueError (no token) with the reason."""
        deadline = time.monotonic() + self._seconds
        self.is_usable = False
        self._socket.settimeout(self._seconds)
        self._socket.sendall(encode(wanted) + b"\n")
        line = read_line(self._socket, deadline, piece_bytes=MAX_LINE_BYTES, max_bytes=MAX_LINE_BYTES)
        answer: Token | NoToken = decode_answer(line)
        match answer:
            case Token(token=token):
                self.is_usable = True
                return token
            case NoToken(reason=reason):
                raise ValueError(reason)


class ServerPTP(PoTokenProvider):  # type: ignore[misc]
    """yt-dlp derives the provider's key from the name of this class, which has to end with PTP."""

    PROVIDER_NAME = "ytmp3"
    BUG_REPORT_LOCATION = "(the operator of this ytmp3 server)"
    _SUPPORTED_CLIENTS = WEBPO_CLIENTS
    _SUPPORTED_CONTEXTS = (PoTokenContext.GVS, PoTokenContext.PLAYER)
    # None: no check of the proxy and the like. The server tells the provider the egress route.
    _SUPPORTED_EXTERNAL_REQUEST_FEATURES = None

    def is_available(self) -> bool:
        """Whether the server has a provider, and it did not fail in this process yet."""
        return self._client is not None and self._client.is_usable

    @property
    def _client(self) -> TokenClient | None:
        client: TokenClient | None = getattr(self.ie._downloader, "tokens", None)  # noqa: SLF001  as yt-dlp's own do
        return client

    def _real_request_pot(self, request: PoTokenRequest) -> PoTokenResponse:
        binding, _ = get_webpo_content_binding(request)
        client = self._client
        if binding is None or client is None:
            raise PoTokenProviderRejectedRequest("nothing to bind a token to")
        try:
            token = client.ask(TokenWanted(content_binding=binding, is_fresh=request.bypass_cache))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise PoTokenProviderError(f"no PO Token: {error}") from error
        return PoTokenResponse(token)


def register() -> None:
    """Make yt-dlp use the provider in this process. It is skipped by a downloader without `tokens`. Call once."""
    register_provider(ServerPTP)
