"""Tells a client that asked for a wrong address, or with a wrong method, which routes it may have meant. Pure.

The text is made from the table of routes and never from the request.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ytmp3.http.routes import CANCEL, DOWNLOAD, EXTRACT, ROUTES, STATUS, Route

_JOB: Final = (STATUS, CANCEL, DOWNLOAD)
_MEANT: Final[Mapping[str, tuple[Route, ...]]] = MappingProxyType(
    {
        **{
            segment: tuple(route for route in ROUTES if route.path.split("/")[1] == segment)
            for segment in {route.path.split("/")[1] for route in ROUTES}
        },
        "extract": (EXTRACT,),
        "convert": (EXTRACT,),
        "status": _JOB,
        "job": _JOB,
        "jobs": _JOB,
        "download": (DOWNLOAD,),
        "downloads": (DOWNLOAD,),
    }
)
"""The routes that are named, by the first segment of the address that was asked for."""


def directions(path: str) -> str | None:
    """Return a sentence with the routes near `path`, or None if nothing is near it."""
    routes = _MEANT.get(path.split("/", 2)[1] if path.startswith("/") else "")
    if routes is None:
        return None
    return "Try " + " or ".join(_spelled(route) for route in routes) + "."


def _spelled(route: Route) -> str:
    """Return a route as a person would ask for it."""
    spelled = f"{route.method} {route.path.replace('{job_id}', 'ID')}"
    return spelled if route.request is None else f"{spelled} with a JSON body"
