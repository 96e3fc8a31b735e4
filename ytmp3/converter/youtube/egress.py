"""Where a downloading child may connect to: YouTube's hosts over TLS, at public addresses, whatever a redirect says."""

import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from ytmp3.core.addresses import is_public

HOSTS: Final = frozenset(
    {"youtube.com", "youtube-nocookie.com", "youtubei.googleapis.com", "googlevideo.com", "ytimg.com", "ggpht.com"}
)
"""Hosts, with their subdomains, that a request may go to. A redirect to any other host, which could be one in our own
network, is not followed."""


class YoutubeOnly(urllib.request.BaseHandler):
    """Refuses every request that does not go to YouTube over TLS. urllib asks it again for each hop of a redirect."""

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Return the request unchanged.

        Raises:
            URLError: it does not go to YouTube. The text is what `signs.sign_of_transport` knows.
        """
        if not is_youtube_address(request.full_url):
            raise urllib.error.URLError(refusal_of(request.full_url))
        return request

    http_request = ftp_request = https_request


def refusal_of(url: str) -> str:
    """Return what a redirect to an address outside YouTube means.

    YouTube sends an address that it distrusts to Google's captcha page (where stock yt-dlp gets status 429), and a
    session whose cookies have expired to the login page.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if (host == "google.com" or host.endswith(".google.com")) and parts.path.startswith("/sorry"):
        return "redirected to Google's captcha page: HTTP Error 429: Too Many Requests"
    if host == "accounts.google.com":
        return "redirected to Google's login page: the session's cookies are not accepted"
    return "redirected away from YouTube: HTTP Error 403: Forbidden"


def is_youtube_address(url: str) -> bool:
    """Whether a request may go to this address: https, the usual port, and one of YouTube's hosts."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return (
        parts.scheme == "https"
        and parts.port in {None, 443}
        and any(host == known or host.endswith(f".{known}") for known in HOSTS)
    )


def public_only(resolve: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Return a `getaddrinfo` that leaves out all addresses which are not public, so that a name cannot lead inside.

    yt-dlp resolves a name once for each connection and connects to what this returns. A name server therefore cannot
    give another address between check and connection (DNS rebinding).
    """

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> list[Any]:
        addresses = [address for address in resolve(host, *arguments, **options) if is_public(address[4][0])]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "name resolution gave no public address")
        return addresses

    return getaddrinfo
