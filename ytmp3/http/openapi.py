"""The OpenAPI 3.1 document, made from the table of routes and the wire types. Pure."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from ytmp3.core.ids import JOB_ID
from ytmp3.core.recipe import EXTENSIONS, MEDIA_TYPES
from ytmp3.core.webhook import MAX_TARGETS
from ytmp3.http.client_handlers import MAX_LIMIT
from ytmp3.http.job_events import MAX_JOBS
from ytmp3.http.openapi_texts import COMMON_FIELDS, EXAMPLES
from ytmp3.http.routes import ROUTES, Body, Media, Route
from ytmp3.http.wire import Problem

VERSION: Final = "3.1.0"
_TAGS: Final = {
    "jobs": "Convert a link, follow the job, and download the track.",
    "batches": "Convert many links or a playlist.",
    "feed": "A podcast feed of the tracks of an API key.",
    "service": "The state of the service, this document, and the command-line client.",
}
"""The groups of operations, from which generators make modules."""
_OF_SERVICE: Final = frozenset({"health", "metrics", "stats", "openapi.json", "ytmp3.pyz"})
"""First parts of the paths of the group `service`. Other paths that begin with no group are about jobs."""
_CONTENT_OF_MEDIA: Final[Mapping[Media, dict[str, Any]]] = {
    Media.TRACK: {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MEDIA_TYPES},
    Media.LIVE: {"audio/mpeg": {"schema": {"type": "string", "format": "binary"}}},
    Media.ARCHIVE: {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    Media.COVER: {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
    Media.TEXT: {"text/plain": {"schema": {"type": "string"}}},
    Media.FEED: {"application/rss+xml": {"schema": {"type": "string"}}},
    # Each event is an object (`event`, `id`, `data`), so the whole is not a string for tools that read streams.
    Media.EVENTS: {"text/event-stream": {"schema": {}}},
    Media.PROGRAM: {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    Media.OPENAPI: {"application/json": {"schema": {"type": "object"}}},
}
_TOKEN: Final = {
    "name": "token",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{50}$"},
}
_OPTIONAL: Final[Mapping[str, dict[str, Any]]] = {"limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}}
"""The forms of the query's optional parameters that are not any text."""
_REQUIRED: Final[Mapping[str, dict[str, Any]]] = {
    "jobs": {"type": "string", "pattern": f"^{JOB_ID.pattern}(,{JOB_ID.pattern}){{0,{MAX_JOBS - 1}}}$"},
}
"""The forms of the query's required parameters."""
_FORMS: Final = {**_OPTIONAL, **_REQUIRED}

_NUMBER: Final = {
    "name": "number",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_TARGETS - 1},
}

_EXTENSION: Final = {
    "name": "extension",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "enum": sorted(EXTENSIONS)},
}


def document(version: str, routes: Iterable[Route] = ROUTES, *, public_path: str = "") -> dict[str, Any]:
    """Return the OpenAPI document of this version of the service, which clients reach below `public_path`."""
    routes = tuple(routes)
    return {
        "openapi": VERSION,
        "info": {
            "title": "ytmp3",
            "version": version,
            "description": "Turns a YouTube link into a verified MP3, M4A or Opus file. "
            "You need the right to convert what you convert.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": public_path or "/"}],
        # Keys are needed only where the operator has set API_KEYS_FILE.
        "security": [{}, {"apiKey": []}, {"bearer": []}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(routes),
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-API-Key",
                    "description": "A key from the operator, where the service requires keys.",
                },
                "bearer": {"type": "http", "scheme": "bearer", "description": "The same key as a bearer token."},
            },
        },
    }


def _schemas(routes: Iterable[Route]) -> dict[str, Any]:
    types = {body for route in routes for body in (route.request, *route.responses.values()) if isinstance(body, type)}
    _, schemas = msgspec.json.schema_components(
        sorted(types, key=lambda kind: kind.__name__), ref_template="#/components/schemas/{name}"
    )
    examples = {type(example).__name__: msgspec.to_builtins(example) for example in EXAMPLES}
    for name, schema in schemas.items():
        for field, form in schema.get("properties", {}).items():
            if field in COMMON_FIELDS:
                form["description"] = COMMON_FIELDS[field]
        if name in examples:
            schema["examples"] = [examples[name]]
    return dict(schemas)


def _paths(routes: Iterable[Route]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for route in routes:
        methods = [route.method.lower()] + (["head"] if route.method == "GET" else [])
        for method in methods:
            paths.setdefault(route.path, {})[method] = _operation(route, method)
    return paths


def _operation(route: Route, method: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation + ("_head" if method == "head" else ""),
        "summary": route.summary,
        "tags": [_tag(route)],
        "responses": {str(status): _response(status, body, method) for status, body in route.responses.items()},
    }
    in_path = {
        "{token}": _TOKEN,
        "{job_id}": _id("job_id"),
        "{batch_id}": _id("batch_id"),
        "{number}": _NUMBER,
        "{extension}": _EXTENSION,
    }
    parameters = [parameter for name, parameter in in_path.items() if name in route.path]
    parameters += [{"name": name, "in": "header", "schema": {"type": "string"}} for name in route.request_headers]
    parameters += [
        {"name": name, "in": "query", "required": name in _REQUIRED, "schema": _FORMS.get(name, {"type": "string"})}
        for name in route.request_parameters
    ]
    if parameters:
        operation["parameters"] = parameters
    if not route.needs_key or not route.is_limited:
        operation["security"] = []
    if route.request is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.request)}
    return operation


def _tag(route: Route) -> str:
    """Return the group of an operation: the first part of its path, if that is one."""
    first = route.path.split("/")[1]
    return first if first in _TAGS else "service" if first in _OF_SERVICE else "jobs"


def _id(name: str) -> dict[str, Any]:
    """Return the parameter of a path that is an id. All ids have the same form."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{JOB_ID.pattern}$"},
    }


def _response(status: int, body: Body, method: str) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if body is not None and method != "head":
        response["content"] = _content(body)
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        response["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "required": True}}
    return response


def _content(body: type[msgspec.Struct] | Media) -> dict[str, Any]:
    if isinstance(body, Media):
        return _CONTENT_OF_MEDIA[body]
    media_type = "application/problem+json" if body is Problem else "application/json"
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
