"""Suggests routes to a client that used a wrong path or a wrong method. Pure.

The text is made from the table of routes and never from the request.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ytmp3.http.routes import BATCH, CANCEL, CREATE_BATCH, DOWNLOAD, EXTRACT, LISTEN, PROBE, ROUTES, STATUS, Route

_JOB: Final = (STATUS, CANCEL, DOWNLOAD)
_MEANT: Final[Mapping[str, tuple[Route, ...]]] = MappingProxyType(
    {
        **{
            segment: tuple(route for route in ROUTES if route.path.split("/")[1] == segment)
            for segment in {route.path.split("/")[1] for route in ROUTES}
        },
        "extract": (EXTRACT,),
        "convert": (EXTRACT,),
        "info": (PROBE,),
        "formats": (PROBE,),
        "status": _JOB,
        "job": _JOB,
        "jobs": _JOB,
        "download": (DOWNLOAD,),
        "downloads": (DOWNLOAD,),
        "stream": (LISTEN,),
        "batches": (CREATE_BATCH, BATCH),
        "batch": (CREATE_BATCH, BATCH),
        "playlist": (CREATE_BATCH,),
    }
)
"""The routes to suggest, by the first segment of the requested path."""


def directions(path: str) -> str | None:
    """Return a sentence with the routes that are similar to `path`, or None if there is none."""
    routes = _MEANT.get(path.split("/", 2)[1] if path.startswith("/") else "")
    if routes is None:
        return None
    return "Try " + " or ".join(_spelled(route) for route in routes) + "."


def _spelled(route: Route) -> str:
    """Return a route as a person would write it."""
    spelled = f"{route.method} {route.example}"
    return spelled if route.request is None else f"{spelled} with a JSON body"
