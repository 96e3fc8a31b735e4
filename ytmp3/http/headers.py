"""Response headers that depend only on the kind of the response: one complete set for each kind.

Every response starts from one of these sets, which includes the security headers. A new kind (for example a web page
with its own content security policy) is one more constant and does not change the others.
"""

from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from ytmp3.core.recipe import MEDIA_TYPES

_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    # Replaces aiohttp's own value, which names its version and Python's.
    "Server": "ytmp3",
}
_DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""Content security policy of data, which must never run or embed anything (OWASP REST Security Cheat Sheet)."""


_PAGE_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect", "manifest")),
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
        "media-src 'self'",
    )
)
"""Content security policy of the web page: only files of this service, no inline code, and no markup made from text.
The last directive is that of its player."""


def _kind(
    *, content_type: str | None, cache_control: str = "no-store", policy: str = _DATA_POLICY
) -> Mapping[str, str]:
    # A multidict, because aiohttp copies it whole: measurably cheaper for every status request than field by field.
    fields = {**_ALWAYS, "Content-Security-Policy": policy, hdrs.CACHE_CONTROL: cache_control}
    if content_type is not None:
        fields[hdrs.CONTENT_TYPE] = content_type
    return CIMultiDictProxy(CIMultiDict(fields))


def extended(kind: Mapping[str, str], more: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers of one response: those of its kind, and `more`."""
    return CIMultiDict({**kind, **more}) if more else kind


JSON: Final = _kind(content_type="application/json")
PROBLEM: Final = _kind(content_type="application/problem+json")
METRICS: Final = _kind(content_type="text/plain; version=0.0.4; charset=utf-8")
FEED: Final = _kind(content_type="application/rss+xml; charset=utf-8")
EMPTY: Final = _kind(content_type=None)
"""A response without a body: that of a CORS preflight, or of a stream that has ended."""
EVENTS: Final = CIMultiDictProxy(CIMultiDict({**_kind(content_type="text/event-stream"), "X-Accel-Buffering": "no"}))
"""A stream of server-sent events. The last header makes nginx pass on each piece at once."""
TRACK: Final = {
    media_type: _kind(content_type=media_type, cache_control="private, no-cache") for media_type in MEDIA_TYPES
}
"""A finished track, whole or in part, by its media type. Clients may cache it but must revalidate it by its ETag."""
LIVE: Final = CIMultiDictProxy(
    CIMultiDict({**_kind(content_type="audio/mpeg"), "Accept-Ranges": "none", "X-Accel-Buffering": "no"})
)
"""The sound of a conversion that still runs. The last header makes nginx pass on each piece at once."""
ARCHIVE: Final = _kind(content_type="application/zip", cache_control="private, no-cache")
"""The archive of a batch, whole or in part."""
TRACK_UNCHANGED: Final = _kind(content_type=None, cache_control="private, no-cache")
"""304, for a track that the client has already."""
COVER: Final = _kind(content_type="image/jpeg", cache_control="private, max-age=86400")
"""The cover of a track. It never changes, so a browser asks again only after a day."""
COVER_UNCHANGED: Final = _kind(content_type=None, cache_control="private, max-age=86400")
"""304, for a cover that the client has already."""


PROGRAM: Final = _kind(content_type="application/octet-stream", cache_control="no-cache")
"""The command-line client. Caches revalidate it by its ETag, so that users get the version of the service."""
PROGRAM_UNCHANGED: Final = _kind(content_type=None, cache_control="no-cache")
"""304, for a client that is up to date."""


def page(download_origin: str) -> Mapping[str, str]:
    """Return the headers of the web page. Its player may also load tracks from `download_origin`, if not empty."""
    return extended(
        _kind(content_type="text/html; charset=utf-8", policy=f"{_PAGE_POLICY} {download_origin}".rstrip()),
        # Without a referrer, browsers would send `Origin: null` with the page's own forms.
        {"Referrer-Policy": "same-origin"},
    )


MANIFEST: Final = _kind(content_type="application/manifest+json", cache_control="no-cache")
PAGE_FILE: Final = _kind(content_type=None, cache_control="public, max-age=31536000, immutable")
"""A file of the page, whose address changes with its content."""
