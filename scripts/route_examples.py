"""An example of each route for the API reference, as a line of curl and as a call of fetch. Pure.

Ids are placeholders: JOB_ID, BATCH_ID, TOKEN and NUMBER.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.http.routes import ROUTES, Media, Route

ADDRESS: Final = "http://127.0.0.1:8080"
"""The default address of the service. The script of the reference replaces it by its own."""
LINK: Final = "https://www.youtube.com/watch?v=aqz-KE-bpKQ"
"""A video under a free licence (Big Buck Bunny, CC BY 3.0)."""
BODIES: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {
        "extract": {"url": LINK, "quality": "192k"},
        "probe": {"url": LINK},
        "create_batch": {"urls": [LINK, "https://youtu.be/eRsGyueVLvQ"]},
    }
)
"""The body of each operation that needs one."""
QUERIES: Final[Mapping[str, str]] = MappingProxyType({"events": "jobs=JOB_ID", "jobs": "limit=50"})
"""The query of each operation that has one in the example."""
WITH_KEY: Final = frozenset({"jobs", "make_feed", "delete_feed"})
"""Operations that only the owner of an API key may use."""
_FILES: Final = frozenset({Media.TRACK, Media.LIVE, Media.ARCHIVE, Media.COVER, Media.PROGRAM})
"""Responses that curl saves as a file."""


def path_of(route: Route) -> str:
    """Return the path of the example, with its query."""
    path = route.path.replace("{extension}", DEFAULT_RECIPE.extension)
    for name in ("job_id", "batch_id", "token", "number"):
        path = path.replace(f"{{{name}}}", name.upper())
    query = QUERIES.get(route.operation)
    return f"{path}?{query}" if query else path


def curl(route: Route) -> str:
    """Return the command of the example."""
    words = ["curl"]
    if route.method != "GET":
        words.append(f"-X {route.method}")
    if route.responses.get(200) in _FILES:
        # Once the job is finished, listening is redirected to the download.
        words.append("-fLOJ" if route.operation == "listen" else "-fOJ")
    if route.responses.get(200) is Media.EVENTS:
        words.append("-N")
    if route.operation in WITH_KEY:
        words.append('-H "X-API-Key: ytmp3_..."')
    path = path_of(route)
    words.append(f'"{ADDRESS}{path}"' if "?" in path else f"{ADDRESS}{path}")
    body = BODIES.get(route.operation)
    if body is None:
        return " ".join(words)
    return f"{' '.join(words)} \\\n  -H \"Content-Type: application/json\" \\\n  -d '{json.dumps(body)}'"


def fetch(route: Route) -> str:
    """Return the JavaScript of the example."""
    options: dict[str, Any] = {} if route.method == "GET" else {"method": route.method}
    body = BODIES.get(route.operation)
    fields = {"X-API-Key": "ytmp3_..."} if route.operation in WITH_KEY else {}
    if body is not None:
        fields["Content-Type"] = "application/json"
    if fields:
        options["headers"] = fields
    lines = [f"  {name}: {json.dumps(value)}," for name, value in options.items()]
    if body is not None:
        lines.append(f"  body: JSON.stringify({json.dumps(body)}),")
    address = f'"{ADDRESS}{path_of(route)}"'
    request = "\n".join([f"fetch({address}, {{", *lines, "})"]) if lines else f"fetch({address})"
    return f"const response = await {request};\n{_reading(route)}"


def _reading(route: Route) -> str:
    """Return the line that reads the response."""
    body = next((body for status, body in route.responses.items() if status < 300), None)
    match body:
        case None:
            return "console.log(response.status);"
        case Media.TRACK | Media.LIVE | Media.ARCHIVE | Media.COVER | Media.PROGRAM:
            return "const file = await response.blob();"
        case Media.EVENTS:
            return "for await (const bytes of response.body) console.log(new TextDecoder().decode(bytes));"
        case Media.TEXT | Media.FEED:
            return "console.log(await response.text());"
        case _:
            return "console.log(await response.json());"


def examples() -> str:
    """Return the section of the reference with the examples of all routes, as Markdown."""
    parts = ["## Try each route", "", "The key in a header is only needed where keys are in use.", ""]
    for route in ROUTES:
        statuses = " ".join(str(status) for status in route.responses)
        parts += [
            f"### {route.method} {path_of(route).partition('?')[0]}",
            "",
            f"{route.summary} Statuses: {statuses}.",
            "",
            "```bash",
            curl(route),
            "```",
            "",
            "```js",
            fetch(route),
            "```",
            "",
        ]
    return "\n".join(parts)
