"""Reads the header fields of conditional requests. `preconditions` decides by them."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import hdrs, web

from ytmp3.http import headers
from ytmp3.http.errors import PreconditionFailed, RangeNotSatisfiable
from ytmp3.http.preconditions import (
    Failed,
    NotModified,
    Part,
    Preconditions,
    Representation,
    Unsatisfiable,
    evaluate,
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a response sends of a file: the bytes `first` to `last`, both included."""

    status: HTTPStatus
    first: int
    last: int
    fields: Mapping[str, str]
    """Content-Range, if it is a part."""

    @property
    def length(self) -> int:
        """The number of bytes."""
        return self.last + 1 - self.first


def selected(
    request: web.Request, representation: Representation, validators: Mapping[str, str]
) -> Selection | web.Response:
    """Return what a GET or HEAD selects of a file, or the 304 response, with `validators`, if the client has it.

    Raises:
        PreconditionFailed, RangeNotSatisfiable
    """
    size = representation.size_bytes
    match evaluate(representation, preconditions_of(request), is_get=request.method == hdrs.METH_GET):
        case Failed():
            raise PreconditionFailed
        case Unsatisfiable():
            raise RangeNotSatisfiable(size)
        case NotModified():
            unchanged = headers.extended(headers.TRACK_UNCHANGED, validators)
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=unchanged)
        case Part(first, last):
            fields: dict[str, str] = {hdrs.CONTENT_RANGE: f"bytes {first}-{last}/{size}"}
            return Selection(HTTPStatus.PARTIAL_CONTENT, first, last, fields)
        case _:
            return Selection(HTTPStatus.OK, 0, size - 1, {})


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
