"""Makes one POST request to an endpoint, and never to an address that it must not reach.

* The address is checked when the socket is made, for each attempt to connect: it is the numeric address that the
  connection goes to. So a name that resolves to another address after a check (DNS rebinding) cannot bypass it.
* Hosts that the operator has listed (WEBHOOK_PRIVATE_HOSTS) use connections without this check.
* No redirect is followed, no proxy from the environment is used, no cookie is kept, and no connection is reused.
* Only the status and `Retry-After` of a response are used. So a huge or endless body costs nothing, and no client can
  read the responses of a private host through this service.
"""

import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol, Self

from aiohttp import (
    AddrInfoType,
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    InvalidURL,
    TCPConnector,
    hdrs,
)
from aiohttp.abc import AbstractResolver
from msgspec import Struct

from ytmp3 import __version__
from ytmp3.core.addresses import is_public
from ytmp3.core.webhook import Reason
from ytmp3.webhooks.endpoints import UrlRefused, checked_url, host_of
from ytmp3.webhooks.resolver import ThreadResolver
from ytmp3.webhooks.settings import PrivateHosts

REQUEST_SECONDS: Final = 15.0
"""Longest time for one request, in seconds, from the look-up of the name to the response's header: the lower end of
what Standard Webhooks recommends (15 to 30 s)."""
READ_BUFFER_BYTES: Final = 4096
"""Bytes of a response that are received before the connection is closed. Only the header is used."""


class AddressRefused(OSError):
    """The numeric address of a connection is not public."""


class Reply(Struct, frozen=True, kw_only=True):
    """The outcome of one request."""

    status: int | None
    """None: there was no response."""
    reason: Reason | None
    """None: the endpoint has accepted the message."""
    retry_after_seconds: float | None = None
    """The wait that the endpoint requested with `Retry-After`."""


class Transport(Protocol):
    """Makes requests. Tests have one without a network."""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Reply:
        """Send a message. Every failure is a reply, so this raises nothing."""
        ...


class HttpTransport:
    """Makes requests over the network.

    Only tests pass their own resolver, rule for addresses, certificate authority, or time.
    """

    def __init__(
        self,
        private_hosts: PrivateHosts,
        *,
        resolver: AbstractResolver | None = None,
        is_allowed: Callable[[str], bool] = is_public,
        tls: ssl.SSLContext | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._private_hosts = private_hosts
        self._resolver = resolver or ThreadResolver()
        self._is_allowed = is_allowed
        self._tls = tls
        self._timeout = ClientTimeout(total=seconds)
        self._public: ClientSession | None = None
        self._private: ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Make the sessions; nothing is connected yet."""
        public = TCPConnector(
            force_close=True,
            limit=0,
            use_dns_cache=False,
            resolver=self._resolver,
            socket_factory=self._socket,
            ssl=self._tls or True,
        )
        private = TCPConnector(
            force_close=True, limit=0, use_dns_cache=False, resolver=self._resolver, ssl=self._tls or True
        )
        self._public, self._private = self._session(public), self._session(private)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the sessions."""
        for session in (self._public, self._private):
            if session is not None:
                await session.close()
        await self._resolver.close()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Reply:
        """See the Protocol. The URL is checked again, because the settings may have changed since it was stored."""
        try:
            checked_url(url, self._private_hosts)
        except UrlRefused:
            return Reply(status=None, reason=Reason.ADDRESS)
        session = self._private if self._private_hosts.allow(host_of(url)) else self._public
        assert session is not None
        try:
            async with session.post(url, headers=headers, data=body, allow_redirects=False) as response:
                return _reply_of(response.status, response.headers.get(hdrs.RETRY_AFTER))
        except TimeoutError:
            return Reply(status=None, reason=Reason.TIMEOUT)
        except (ClientError, OSError, InvalidURL, ValueError) as error:
            return Reply(status=None, reason=_reason_of(error))

    def _socket(self, address: AddrInfoType) -> socket.socket:
        """Make the socket of one attempt to connect to a host that is not listed.

        Raises:
            AddressRefused: the address is not public.
        """
        family, kind, protocol, _, target = address
        if not self._is_allowed(target[0]):
            raise AddressRefused("the address is not public")
        return socket.socket(family=family, type=kind, proto=protocol)

    def _session(self, connector: TCPConnector) -> ClientSession:
        return ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            headers={hdrs.USER_AGENT: f"ytmp3/{__version__}", hdrs.CONTENT_TYPE: "application/json"},
            timeout=self._timeout,
            trust_env=False,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
        )


def _reply_of(status: int, retry_after: str | None) -> Reply:
    """Judge a response as Standard Webhooks does: 2xx is success, and a redirect is a failure."""
    reason: Reason | None = Reason.STATUS
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        reason = None
    elif HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        reason = Reason.REDIRECT
    elif status == HTTPStatus.GONE:
        reason = Reason.GONE
    # A Retry-After with a date is rare and is ignored: the normal schedule applies.
    seconds = (
        float(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else None
    )
    return Reply(status=status, reason=reason, retry_after_seconds=seconds)


def _reason_of(error: Exception) -> Reason:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AddressRefused):
            return Reason.ADDRESS
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ClientSSLError):
        return Reason.TLS
    return Reason.CONNECTION
