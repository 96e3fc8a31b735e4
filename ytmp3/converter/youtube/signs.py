"""The signs of trouble at YouTube: one name for each kind of warning of yt-dlp and of failed request. Pure.

Signs travel from the downloading child to the server, which counts them, also for conversions that succeed: a broken
challenge solver is silent as long as one player client still works. The texts of warnings stay in the child.
"""

import re
from enum import StrEnum
from typing import Final


class Sign(StrEnum):
    """The values are labels of a metric, so there is a fixed number of them."""

    SABR_ONLY = "sabr_only"
    """A client lists formats without links: YouTube serves it only by its own streaming protocol (SABR)."""
    CHALLENGE_FAILED = "challenge_failed"
    """The player script's signature or `n` function could not be found or run."""
    ONLY_IMAGES = "only_images"
    """Nothing but storyboards is left."""
    NO_JS_RUNTIME = "no_js_runtime"
    NO_SOLVER = "no_solver"
    """The challenge solver's script is missing or of the wrong version (yt-dlp: "remote component")."""
    PO_TOKEN = "po_token"  # noqa: S105  not a password
    """Formats were skipped because they need a proof-of-origin token."""
    SOLUTION_REFUSED = "solution_refused"
    """YouTube refuses a link that contains the solution of a challenge, also a fresh one: the solution may be wrong."""
    DRM = "drm"
    BOT_CHECK = "bot_check"
    RATE_LIMITED = "rate_limited"
    """Status 429, a redirect to Google's captcha page, or YouTube's sentence about a session's rate limit."""
    COOKIES = "cookies"
    """The cookies are no longer valid, or YouTube redirects to the login page."""
    CLIENT_WITHOUT_COOKIES = "client_without_cookies"
    """A client of YOUTUBE_CLIENTS was not asked, because it cannot send cookies."""
    OTHER_VIDEO = "other_video"
    """A client answered for another video than the one that was asked for."""
    CLIENT_REFUSED = "client_refused"
    """Status 400 of the player API, or a text that says the same: this client may not ask (any more)."""
    FORBIDDEN = "forbidden"
    """Status 403."""
    SERVER_ERROR = "server_error"
    """A status from 500 on."""
    HTTP_ERROR = "http_error"
    """Any other status that is an error."""
    PROXY_LOGIN = "proxy_login"
    """The proxy wants a name and a password, or other ones (407)."""
    PROXY_SCHEME = "proxy_scheme"
    """The proxy's scheme is not supported."""
    CERTIFICATE = "certificate"
    """The certificate of YouTube, or of a proxy in between, is not trusted."""
    SOURCE_ADDRESS = "source_address"
    """This machine has no such address to connect from."""
    UNRESOLVED = "unresolved"
    """A name has no (public) address."""
    UNREACHABLE = "unreachable"
    """A connection was refused, has no route, or the proxy could not make it."""
    TIMEOUT = "timeout"
    BROKEN_CONNECTION = "broken_connection"
    UNREADABLE = "unreadable"
    """A response that could not be decompressed or parsed, or was too large."""
    RESTRICTED_NETWORK = "restricted_network"
    """The operator's network or Workspace account hides this video (restricted mode)."""
    UNKNOWN_MESSAGE = "unknown_message"
    """The conversion failed with a text that is in none of our tables."""
    OTHER = "other"
    """A warning that is in none of our tables."""


RELEASE: Final = frozenset(
    {
        Sign.SABR_ONLY,
        Sign.CHALLENGE_FAILED,
        Sign.ONLY_IMAGES,
        Sign.NO_JS_RUNTIME,
        Sign.NO_SOLVER,
        Sign.PO_TOKEN,
        Sign.CLIENT_REFUSED,
    }
)
"""Formats are missing because of us: the installed release or the chosen player client, not the video."""

SETTINGS: Final = frozenset({Sign.PROXY_LOGIN, Sign.PROXY_SCHEME, Sign.CERTIFICATE, Sign.SOURCE_ADDRESS})
"""A setting of the operator's is wrong."""

NETWORK: Final = frozenset({Sign.UNRESOLVED, Sign.UNREACHABLE})
"""No connection came about at all."""

WITHOUT_REPLY: Final = SETTINGS | NETWORK | {Sign.TIMEOUT, Sign.BROKEN_CONNECTION}
"""What a request met that got no response from YouTube at all."""

_WARNINGS: Final = tuple(
    (sign, re.compile(expressions, re.IGNORECASE))
    for sign, expressions in (
        (Sign.RATE_LIMITED, r"HTTP Error 429|Too Many Requests|rate-limited by youtube"),
        (Sign.BOT_CHECK, r"not a bot\b|\bcaptcha\b|unusual traffic"),
        (Sign.COOKIES, r"cookies are no longer valid"),
        (Sign.CLIENT_WITHOUT_COOKIES, r"does not support cookies"),
        (Sign.SABR_ONLY, r"missing a URL|SABR"),
        (Sign.NO_JS_RUNTIME, r"no supported javascript runtime"),
        # Before the missing solver: yt-dlp advises to install one in each of these warnings.
        (
            Sign.CHALLENGE_FAILED,
            (
                r"(?:challenge|signature) solving failed|error solving|unable to find .*function"
                r"|challenge provider .* returned"
            ),
        ),
        (Sign.NO_SOLVER, r"remote component|challenge solver (?:\w+ )?script"),
        (Sign.ONLY_IMAGES, r"only images are available"),
        (Sign.PO_TOKEN, r"\bPO[ _]Token\b"),
        (Sign.DRM, r"\bDRM\b"),
        (Sign.OTHER_VIDEO, r"skipping player responses from"),
        (
            Sign.CLIENT_REFUSED,
            (
                r"HTTP Error 400\b|precondition check failed|invalid argument|on this app|latest version of youtube"
                "|skipping unsupported client"
            ),
        ),
        (Sign.FORBIDDEN, r"HTTP Error 403\b"),
        (Sign.SERVER_ERROR, r"HTTP Error 5\d\d\b"),
        (Sign.HTTP_ERROR, r"HTTP Error \d\d\d\b"),
        (Sign.TIMEOUT, r"timed? ?out\b"),
        (Sign.UNREADABLE, r"failed to parse|unable to extract|incomplete data"),
    )
)

# What yt-dlp says only as a debug message, because it is usual for some of its default clients.
_DEBUG: Final = tuple(row for row in _WARNINGS if row[0] in {Sign.SABR_ONLY, Sign.PO_TOKEN})
_DEBUG_SAYS: Final = re.compile(r"have been skipped|will be skipped")


def sign_of_warning(text: str) -> Sign:
    """Return the sign that a warning of yt-dlp is."""
    return next((sign for sign, pattern in _WARNINGS if pattern.search(text)), Sign.OTHER)


def sign_of_debug(text: str) -> Sign | None:
    """Return the sign that a debug message of yt-dlp is; None for most."""
    if not _DEBUG_SAYS.search(text):
        return None
    return next((sign for sign, pattern in _DEBUG if pattern.search(text)), None)


_RESTRICTED: Final = re.compile(r"restricted mode|(?:network|workspace|your) administrator", re.IGNORECASE)


def sign_of_failure(text: str) -> Sign | None:
    """Return what the operator should know of a final error, besides its code; None for nearly all."""
    return Sign.RESTRICTED_NETWORK if _RESTRICTED.search(text) else None


_SIGNS_OF_REQUESTS: Final = tuple(
    (sign, re.compile(expressions, re.IGNORECASE))
    for sign, expressions in (
        (Sign.RATE_LIMITED, r"HTTP Error 429"),
        (Sign.COOKIES, r"redirected to Google's login page"),
        (Sign.FORBIDDEN, r"HTTP Error 403"),
        (Sign.PROXY_LOGIN, r"\b407\b|proxy authentication|authentication failed|no acceptable authentication"),
        (Sign.PROXY_SCHEME, r"HTTPS proxy|unsupported proxy|unknown proxy"),
        (Sign.SOURCE_ADDRESS, r"cannot assign requested address"),
        (Sign.CERTIFICATE, r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|hostname mismatch"),
        (
            Sign.UNRESOLVED,
            (
                r"name resolution|name or service not known|nodename nor servname|no address associated"
                r"|no public address|failed to resolve|\[Errno -\d+\]"
            ),
        ),
        (
            Sign.UNREACHABLE,
            (
                r"connection refused|no route to host|network is unreachable|host is unreachable|no address to connect"
                r"|tunnel connection failed|\[Errno 1(?:01|11|12|13)\]"
            ),
        ),
        (Sign.TIMEOUT, r"timed? ?out\b|\[Errno 110\]"),
        (
            Sign.UNREADABLE,
            r"a response of more than|ends too early|encoding that was not asked for|error -\d while decomp",
        ),
    )
)


def sign_of_status(status: int) -> Sign:
    """Return the sign that a response with this status is, which is an error (400 or more)."""
    match status:
        case 400:
            return Sign.CLIENT_REFUSED
        case 403:
            return Sign.FORBIDDEN
        case 429:
            return Sign.RATE_LIMITED
        case _:
            return Sign.SERVER_ERROR if status >= 500 else Sign.HTTP_ERROR


def sign_of_transport(text: str) -> Sign:
    """Return the sign that a request is which got no response, by the text of its error."""
    return next((sign for sign, pattern in _SIGNS_OF_REQUESTS if pattern.search(text)), Sign.BROKEN_CONNECTION)
