"""Sends one test message to an endpoint, for `ytmp3 webhook test`: the same file, signature, checks and time limit."""

import time
from datetime import UTC, datetime
from typing import Final

import msgspec

from ytmp3.core.errors import Ytmp3Error
from ytmp3.core.webhook import Reason
from ytmp3.webhooks.endpoints import (
    FROM_REQUEST,
    Endpoints,
    EndpointsFileError,
    UrlRefused,
    checked_url,
    read_endpoints_file,
)
from ytmp3.webhooks.settings import WebhookSettings
from ytmp3.webhooks.signature import signed_headers
from ytmp3.webhooks.transport import REQUEST_SECONDS, HttpTransport, Reply

_ADVICE: Final[dict[Reason, str]] = {
    Reason.STATUS: "it refused the message: check the receiver's log, and the secret there",
    Reason.REDIRECT: "it responded with a redirect, which is not followed: use the final address",
    Reason.GONE: "it responded with 410 Gone: it wants no more messages",
    Reason.TIMEOUT: f"it did not respond within {REQUEST_SECONDS:g} s",
    Reason.CONNECTION: "no connection: check the name, the port, and that the receiver runs",
    Reason.TLS: "its certificate is not valid for this name, or it does not speak TLS",
    Reason.ADDRESS: "its address is private: list the host in WEBHOOK_PRIVATE_HOSTS, if it is yours",
}


class TrialRefused(Ytmp3Error):
    """No message was sent, because the settings or the arguments are wrong. The text says which."""


async def try_endpoint(settings: WebhookSettings, name: str, url: str | None) -> tuple[bool, str]:
    """Send a message of type `test`. Returns whether it was accepted, and a text for the operator.

    Raises:
        TrialRefused
    """
    if settings.file is None:
        raise TrialRefused("WEBHOOKS_FILE: not set")
    try:
        endpoint = Endpoints(read_endpoints_file(settings)).named(name)
    except EndpointsFileError as error:
        raise TrialRefused(f"WEBHOOKS_FILE: {settings.file}: {error}") from error
    if endpoint is None:
        raise TrialRefused(f"WEBHOOKS_FILE: {settings.file}: no endpoint has this name")
    if (url is None) == (endpoint.url == FROM_REQUEST):
        raise TrialRefused("URL: expected if, and only if, the URL of the endpoint in the file is *")
    address = endpoint.url if url is None else url
    try:
        checked_url(address, settings.private_hosts)
    except UrlRefused as error:
        raise TrialRefused(f"URL: {error}") from error
    now = time.time()
    message = {"type": "test", "timestamp": datetime.fromtimestamp(round(now, 3), UTC), "data": {"endpoint": name}}
    body = msgspec.json.encode(message)
    headers = signed_headers(f"test-{int(now)}", int(now), body, endpoint.secrets)
    began_at = time.monotonic()
    async with HttpTransport(settings.private_hosts) as transport:
        reply = await transport.post(address, headers, body)
    return _described(name, reply, time.monotonic() - began_at)


def _described(name: str, reply: Reply, seconds: float) -> tuple[bool, str]:
    status = "no response" if reply.status is None else f"status {reply.status}"
    if reply.reason is None:
        return True, f"{name}: accepted ({status}, {seconds:.2f} s)"
    return False, f"{name}: not accepted ({status}, {seconds:.2f} s): {_ADVICE[reply.reason]}"
