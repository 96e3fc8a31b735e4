"""WEBHOOKS_FILE: the endpoints that messages are sent to, with their owners, addresses and secrets.

One endpoint a line, `#` begins a comment line:

    NAME OWNER URL SECRET [SECRET] [events=TYPE,TYPE]

OWNER is the name of an API key, or `*` for the jobs of every client. URL `*` allows the owner to name a URL in each
request; without such a line, such requests are refused. Two secrets are in use while one replaces the other.

Addresses are checked twice: here, by the text of the URL, and in `transport`, by the numeric address when it connects.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from ytmp3.core.errors import Ytmp3Error
from ytmp3.core.ids import ClientId
from ytmp3.core.webhook import MAX_TARGETS, WebhookEvent, WebhookTarget
from ytmp3.webhooks.settings import PrivateHosts, WebhookSettings
from ytmp3.webhooks.signature import parse_secret

ANYONE: Final = "*"
"""As OWNER: the endpoint gets the messages of every client."""
FROM_REQUEST: Final = "*"
"""As URL: each request names the address."""
MAX_URL_CHARACTERS: Final = 2048
"""Longest URL of an endpoint."""
HTTPS_PORT: Final = 443
FIRST_UNPRIVILEGED_PORT: Final = 1024
"""Besides 443, only ports from here on are used: a request to the port of a mail server or of another well-known
service is never a webhook."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_URL: Final = re.compile(r"https?://[!-~]+", re.ASCII)
_NETLOC: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]+)?", re.ASCII)
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\.?", re.ASCII)


class EndpointsFileError(Ytmp3Error):
    """WEBHOOKS_FILE cannot be used. The text names the line but does not show it, because it contains a secret."""


class UrlRefused(Ytmp3Error):
    """A URL must not be used as an endpoint. The text says what is accepted, and does not repeat the URL."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """One line of WEBHOOKS_FILE."""

    name: str
    owner: str
    """The name of an API key, or ANYONE."""
    url: str
    """Its address, or FROM_REQUEST. It may contain a secret, such as the token of a bot, so it is never shown."""
    secrets: tuple[bytes, ...]
    events: tuple[WebhookEvent, ...] = tuple(WebhookEvent)

    def belongs_to(self, client: ClientId) -> bool:
        """Return whether the endpoint gets the messages of this client."""
        return self.owner == ANYONE or client == f"key:{self.owner}"

    def __repr__(self) -> str:
        """Show only the name: a repr may appear in logs and tracebacks, and the other fields contain secrets."""
        return f"Endpoint({self.name})"


def checked_url(url: str, private_hosts: PrivateHosts) -> str:
    """Return the URL if messages may be sent to it.

    Raises:
        UrlRefused: https is required, except for a listed private host.
    """
    parts = _split(url)
    host = parts.hostname or ""
    if private_hosts.allow(host):
        return url
    if parts.scheme != "https":
        raise UrlRefused("a webhook must be an https:// URL")
    port = HTTPS_PORT if parts.port is None else parts.port
    if port != HTTPS_PORT and port < FIRST_UNPRIVILEGED_PORT:
        raise UrlRefused("a webhook must use port 443, or a port from 1024 on")
    return url


def host_of(url: str) -> str:
    """Return the host of a checked URL."""
    return _split(url).hostname or ""


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL_CHARACTERS or _URL.fullmatch(url) is None:
        raise UrlRefused("a webhook must be an https:// URL of at most 2,048 printable ASCII characters")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UrlRefused("a webhook must be a valid URL") from None
    # URL parsers disagree about other characters there, and a user name can make a host look like another one.
    if _NETLOC.fullmatch(parts.netloc) is None or "\\" in url or parts.fragment:
        raise UrlRefused("a webhook must be a URL without user name, backslash or fragment")
    if not _is_host(parts.hostname or ""):
        raise UrlRefused("a webhook must be a URL with a host")
    return parts


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST.fullmatch(host) is not None
    return True


def read_endpoints_file(settings: WebhookSettings) -> tuple[Endpoint, ...]:
    """Read the file that the settings name; no endpoints if they name none.

    Raises:
        EndpointsFileError: it cannot be read, or a line of it is wrong.
    """
    if settings.file is None:
        return ()
    try:
        text = settings.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EndpointsFileError(error.strerror or "" if isinstance(error, OSError) else "not UTF-8") from error
    return parse_endpoints(text, settings.private_hosts)


def parse_endpoints(text: str, private_hosts: PrivateHosts) -> tuple[Endpoint, ...]:
    """Read WEBHOOKS_FILE.

    Raises:
        EndpointsFileError
    """
    endpoints: list[Endpoint] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words and not words[0].startswith("#"):
            try:
                endpoints.append(_parse_endpoint(words, private_hosts))
            except (ValueError, UrlRefused) as error:
                raise EndpointsFileError(f"line {number}: {error}") from None
    names = [endpoint.name for endpoint in endpoints]
    if len(names) != len(set(names)):
        raise EndpointsFileError("two lines have the same name")
    for owner in {endpoint.owner for endpoint in endpoints}:
        if sum(endpoint.owner in {owner, ANYONE} for endpoint in endpoints) > MAX_TARGETS:
            raise EndpointsFileError(f"one owner has more than {MAX_TARGETS} endpoints")
    return tuple(endpoints)


def _parse_endpoint(words: Sequence[str], private_hosts: PrivateHosts) -> Endpoint:
    """Read the words of a line. Raises ValueError or UrlRefused, whose texts show no word of it."""
    options = [word for word in words[3:] if "=" in word and not word.startswith("whsec_")]
    secrets = [word for word in words[3:] if word not in options]
    if len(words) < 4 or not 1 <= len(secrets) <= 2 or len(options) > 1:
        raise ValueError("expected NAME OWNER URL SECRET [SECRET] [events=TYPE,TYPE]")
    name, owner, url = words[:3]
    if _NAME.fullmatch(name) is None:
        raise ValueError("NAME: expected 1 to 64 letters, digits, dots, dashes and underscores")
    if owner != ANYONE and _NAME.fullmatch(owner) is None:
        raise ValueError("OWNER: expected the name of an API key, or *")
    return Endpoint(
        name=name,
        owner=owner,
        url=url if url == FROM_REQUEST else checked_url(url, private_hosts),
        secrets=tuple(parse_secret(secret) for secret in secrets),
        events=_parse_events(options),
    )


def _parse_events(options: Sequence[str]) -> tuple[WebhookEvent, ...]:
    if not options:
        return tuple(WebhookEvent)
    option, _, types = options[0].partition("=")
    try:
        events = tuple(WebhookEvent(kind) for kind in types.split(","))
    except ValueError:
        events = ()
    if option != "events" or not events:
        raise ValueError(f"expected events= and some of {', '.join(WebhookEvent)}, separated by commas")
    return events


class Endpoints:
    """The endpoints in use. The file can be read again while the service runs (SIGHUP)."""

    def __init__(self, endpoints: Sequence[Endpoint] = (), private_hosts: PrivateHosts | None = None) -> None:
        self._private_hosts = PrivateHosts() if private_hosts is None else private_hosts
        self._by_name = {endpoint.name: endpoint for endpoint in endpoints}

    @property
    def are_configured(self) -> bool:
        """Whether there is any endpoint."""
        return bool(self._by_name)

    def replace(self, endpoints: Sequence[Endpoint]) -> None:
        """Replace the endpoints. Pending deliveries to one that is gone fail."""
        self._by_name = {endpoint.name: endpoint for endpoint in endpoints}

    def targets(self, client: ClientId, url: str | None = None) -> tuple[WebhookTarget, ...]:
        """Return the targets of a client's new job or batch. `url` is the address that its request names.

        Raises:
            UrlRefused: the client must not name an address, or not this one.
        """
        own = [endpoint for endpoint in self._by_name.values() if endpoint.belongs_to(client)]
        targets = [
            WebhookTarget(endpoint=endpoint.name, events=endpoint.events)
            for endpoint in own
            if endpoint.url != FROM_REQUEST
        ]
        if url is not None:
            asked = next((endpoint for endpoint in own if endpoint.url == FROM_REQUEST), None)
            if asked is None:
                raise UrlRefused("requests of this client must not name a webhook: ask the operator of this service")
            checked = checked_url(url, self._private_hosts)
            targets.append(WebhookTarget(endpoint=asked.name, url=checked, events=asked.events))
        return tuple(targets)

    def find(self, name: str, client: ClientId) -> Endpoint | None:
        """Return the endpoint with this name, if it still gets the messages of the client."""
        endpoint = self._by_name.get(name)
        return endpoint if endpoint is not None and endpoint.belongs_to(client) else None

    def named(self, name: str) -> Endpoint | None:
        """Return the endpoint with this name."""
        return self._by_name.get(name)
