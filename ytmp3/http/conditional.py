"""Reads the header fields of conditional requests. `preconditions` decides by them."""

from aiohttp import hdrs, web

from ytmp3.http.preconditions import NotModified, Preconditions, Representation, evaluate


def preconditions_of(request: web.Request) -> Preconditions:
    """Return the header fields that the decision depends on."""
    fields = request.headers
    return Preconditions(
        if_match=_joined(request, hdrs.IF_MATCH),
        if_none_match=_joined(request, hdrs.IF_NONE_MATCH),
        if_modified_since=fields.get(hdrs.IF_MODIFIED_SINCE),
        if_unmodified_since=fields.get(hdrs.IF_UNMODIFIED_SINCE),
        if_range=_joined(request, hdrs.IF_RANGE),
        ranges=fields.getall(hdrs.RANGE, ()),
    )


def is_known(request: web.Request, etag: str) -> bool:
    """Return whether the client already has the response with this ETag, which is always sent whole and has no date."""
    wanted = Preconditions(if_none_match=_joined(request, hdrs.IF_NONE_MATCH))
    representation = Representation(etag=etag, modified_at=0, size_bytes=0)
    return isinstance(evaluate(representation, wanted, is_get=True), NotModified)


def _joined(request: web.Request, name: str) -> str | None:
    """Return a list, which may be split into several header lines, as one; None if there is none."""
    values = request.headers.getall(name, ())
    return ", ".join(values) if values else None
