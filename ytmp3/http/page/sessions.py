"""Sessions of the web page: a cookie that stands for an API key, so that no script of the page ever sees the key.

A session is not stored. The cookie holds the name of the key, the end of the session, and an HMAC of both:

    ytmp3_session=NAME:UNTIL:SIGNATURE        UNTIL: seconds since 1970, by the clock of the instance

Every instance with the same secret accepts it. It ends early if the operator removes the key.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from msgspec import Struct

from ytmp3.core.client import ApiKey
from ytmp3.http.keys import Keys

COOKIE: Final = "ytmp3_session"
SESSION_SECONDS: Final = 30 * 86_400
"""Length of a session, in seconds: thirty days."""
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
"""Methods of requests that change nothing."""
_PURPOSE: Final = b"ytmp3 page session 1"
"""Part of every signed text, because the same secret also signs download links."""
_VALUE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}):([0-9]{1,12}):([A-Za-z0-9_-]{43})", re.ASCII)


class _Session(Struct, frozen=True):
    """The result of the check of a request's cookie: the key that it stands for, or None."""

    key: ApiKey | None


_CHECKED: Final = web.RequestKey("session", _Session)
"""Set once the cookie of a request has been checked, because several parts of one response depend on it."""


class SessionSigner:
    """Makes and checks the values of session cookies. Instances that share visitors need the same `secret`."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def value(self, key_name: str, *, until: int) -> str:
        """Return the value of the cookie for a visitor who has presented the key of this name."""
        return f"{key_name}:{until}:{self._signature(key_name, str(until))}"

    def key_name(self, value: str, *, now: float) -> str | None:
        """Return the name of the key that a cookie stands for; None if the cookie is not valid or has expired."""
        match = _VALUE.fullmatch(value)
        if match is None:
            return None
        name, until, signature = match.groups()
        # The comparison takes constant time, so that its duration does not reveal how many characters are correct.
        is_ours = hmac.compare_digest(self._signature(name, until), signature)
        return name if is_ours and now < int(until) else None

    def _signature(self, name: str, until: str) -> str:
        digest = hmac.digest(self._secret, b"\n".join((_PURPOSE, name.encode(), until.encode())), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Sessions:
    """Finds the API key of a visitor who is signed in. `clock` returns seconds since 1970."""

    def __init__(self, signer: SessionSigner, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._signer = signer
        self._keys = keys
        self._clock = clock

    def key_of(self, request: web.Request) -> ApiKey | None:
        """Return the key of the visitor who sent a request; None if the request has no valid session.

        A browser adds the cookie to requests that other sites cause, too (cross-site request forgery). So a request
        that changes something is accepted only from a page of this service. The cookie of a request is checked once.
        """
        checked = request.get(_CHECKED)
        if checked is None:
            checked = request[_CHECKED] = _Session(self._check(request))
        return checked.key

    def _check(self, request: web.Request) -> ApiKey | None:
        value = request.cookies.get(COOKIE)
        if value is None or (request.method not in _SAFE_METHODS and not is_from_own_page(request)):
            return None
        name = self._signer.key_name(value, now=self._clock())
        return next((key for key in self._keys.keys or () if key.name == name), None)

    def start(self, request: web.Request, response: web.StreamResponse, key: ApiKey, path: str) -> None:
        """Set the cookie of a new session. `path`: where the page is served."""
        until = int(self._clock()) + SESSION_SECONDS
        response.set_cookie(
            COOKIE,
            self._signer.value(key.name, until=until),
            max_age=SESSION_SECONDS,
            path=path,
            httponly=True,
            samesite="Strict",
            # Browsers send a `Secure` cookie only over HTTPS. A proxy that terminates TLS sets X-Forwarded-Proto.
            secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
        )

    def end(self, response: web.StreamResponse, path: str) -> None:
        """Remove the cookie."""
        response.del_cookie(COOKIE, path=path, httponly=True, samesite="Strict")


def is_from_own_page(request: web.Request) -> bool:
    """Return whether the request comes from a page of this service, or from no web page at all.

    All current browsers send Sec-Fetch-Site. Older ones send Origin with every POST. Other programs send neither, and
    no foreign page can make them send a request.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get(hdrs.ORIGIN)
    # The port is not compared, because nginx passes the Host header on without it.
    return origin is None or urlsplit(origin).hostname == urlsplit(f"//{request.host}").hostname
