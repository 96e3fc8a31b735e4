"""Fetches proof-of-origin (PO) tokens for the youtube children, from the provider at POT_PROVIDER_URL.

The children may connect to YouTube only, so the server asks the provider for them. The provider is a program of its
own, "bgutil-ytdlp-pot-provider" 2.0 or one with the same HTTP interface: `POST /get_pot` with a JSON object is answered
with `poToken`, and `GET /ping` with `version`. It runs YouTube's own script, so it belongs into a container without
secrets and must not be reachable from outside.

A child is not trusted: its requests are bounded in size and number. Neither is the provider: only a text with the form
of a token is passed on. A provider that fails is not asked for some seconds, so that it does not delay all conversions.
"""

import asyncio
import contextlib
import functools
import logging
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

from ytmp3.converter import ToolCheck
from ytmp3.converter.child_connection import child_connection
from ytmp3.converter.settings import Egress, ToolSettings
from ytmp3.converter.token_messages import MAX_LINE_BYTES, NoToken, Token, TokenWanted, decode_wanted, encode

TOKEN_SECONDS: Final = 15.0
"""Longest time for one token, in seconds. A provider takes 1 to 5 s for the first one, and then milliseconds."""
PING_SECONDS: Final = 3.0
"""Longest time for the health check of the provider, in seconds."""
PAUSE_SECONDS: Final = 30.0
"""How long, in seconds, a provider is not asked after a failure."""
MAX_TOKENS: Final = 16
"""Most requests of one child: some for each player client that needs tokens, in each extraction."""
MAX_ANSWER_BYTES: Final = 64 * 1024
"""Largest answer of the provider that is read, in bytes."""
_BINDING: Final = re.compile(r"[\x21-\x7e]{1,1000}")
_FORM_OF_TOKENS: Final = r"^[A-Za-z0-9_=%-]{1,4000}\Z"

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class _Answer(msgspec.Struct, frozen=True):
    """The answer of the provider to `POST /get_pot`, as far as it is used."""

    po_token: Annotated[str, msgspec.Meta(pattern=_FORM_OF_TOKENS)] = msgspec.field(name="poToken")


class _Pong(msgspec.Struct, frozen=True):
    """The answer of the provider to `GET /ping`."""

    version: str = "unknown"


class ProviderError(Exception):
    """The provider has not answered, or not with a token."""


class TokenProvider:
    """The connection to the provider; one for each instance. Without a POT_PROVIDER_URL it does nothing."""

    def __init__(
        self, settings: ToolSettings, *, seconds: float = TOKEN_SECONDS, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._url = settings.pot_provider_url
        self._seconds = seconds
        self._pause_seconds = pause_seconds
        self._session: ClientSession | None = None
        self._paused_until: dict[Egress, float] = {}
        """By way to YouTube: a broken proxy of one identity does not take the tokens from the others."""
        self._made = self._failed = 0
        self._last_error = ""

    @property
    def child_seconds(self) -> float | None:
        """How long a child may wait for an answer; None: there is no provider."""
        return None if self._url is None else self._seconds + 1.0

    @contextlib.asynccontextmanager
    async def connection(self, egress: Egress | None) -> AsyncIterator[int | None]:
        """Yield a descriptor for one child, whose requests are answered until the block ends; None: no provider.

        `egress` is the child's way to YouTube; None: it gets no tokens.
        """
        if self._url is None or egress is None:
            yield None
            return
        serve = functools.partial(self._serve, egress)
        async with child_connection(serve, name="token", max_line_bytes=MAX_LINE_BYTES) as descriptor:
            yield descriptor

    async def check(self) -> ToolCheck | None:
        """Ask the provider whether it is there; None: there is none to ask.

        Never a reason to be unready: most conversions need no token.
        """
        if self._url is None:
            return None
        counts = f"made {self._made}, failed {self._failed}"
        counts += f"; last error: {self._last_error}" if self._last_error else ""
        try:
            version = (await self._request("GET", "/ping", None, PING_SECONDS, _Pong)).version[:40]
        except ProviderError as error:
            return ToolCheck(name="po-tokens", ok=True, version=None, detail=f"no answer of the provider: {error}")
        return ToolCheck(name="po-tokens", ok=True, version=version, detail=f"the provider answers; {counts}")

    async def close(self) -> None:
        """Close the connections to the provider."""
        if self._session is not None:
            await self._session.close()

    async def _serve(self, egress: Egress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(MAX_TOKENS):
            line = await reader.readline()
            if not line:
                return
            writer.write(encode(await self._answer(egress, decode_wanted(line))) + b"\n")
            await writer.drain()

    async def _answer(self, egress: Egress, wanted: TokenWanted) -> Token | NoToken:
        if not _BINDING.fullmatch(wanted.content_binding):
            return NoToken(reason="not a content binding")
        if time.monotonic() < self._paused_until.get(egress, 0.0):
            return NoToken(reason="the provider is not asked for some seconds after a failure")
        question = {"content_binding": wanted.content_binding, "bypass_cache": wanted.is_fresh, **_way(egress)}
        try:
            token = (await self._request("POST", "/get_pot", question, self._seconds, _Answer)).po_token
        except ProviderError as error:
            self._failed += 1
            self._last_error = str(error)
            self._pause(egress)
            logger.warning("no PO token", extra={"reason": self._last_error})
            return NoToken(reason=self._last_error)
        self._made += 1
        return Token(token=token)

    def _pause(self, egress: Egress) -> None:
        now = time.monotonic()
        # SIGHUP may replace the identities: the ended pauses of removed ones must not be kept.
        self._paused_until = {way: until for way, until in self._paused_until.items() if until > now}
        self._paused_until[egress] = now + self._pause_seconds

    async def _request(self, method: str, path: str, body: Any, seconds: float, kind: type[_T]) -> _T:
        if self._session is None:
            self._session = ClientSession(cookie_jar=DummyCookieJar(), trust_env=False)
        try:
            async with self._session.request(
                method, f"{self._url}{path}", json=body, timeout=ClientTimeout(total=seconds), allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise ProviderError(f"status {response.status}")
                content = await response.content.read(MAX_ANSWER_BYTES)
                while chunk := await response.content.read(MAX_ANSWER_BYTES):
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise ProviderError("a huge answer")
                return msgspec.json.decode(content, type=kind)
        except TimeoutError as error:
            raise ProviderError(f"no answer within {seconds:g} s") from error
        except (ClientError, OSError, msgspec.MsgspecError) as error:
            # The text of an error may hold the address of the provider, and its password.
            raise ProviderError(type(error).__name__) from error


def _way(egress: Egress) -> dict[str, str]:
    """Return the fields of a request that name the way to YouTube.

    A token is valid for the address that asked for it, so the provider must take the same way as the child.
    """
    way = {"proxy": egress.proxy, "source_address": egress.source_address}
    return {name: value for name, value in way.items() if value is not None}
