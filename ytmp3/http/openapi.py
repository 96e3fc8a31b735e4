"""The contract for machines: the route table, and the OpenAPI 3.1 document made of it and of the types in use. Pure.

`api` registers exactly these routes, so what is served and what is documented cannot part.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from ytmp3.core.ids import JOB_ID
from ytmp3.core.recipe import MEDIA_TYPES
from ytmp3.http.routes import ROUTES, Route
from ytmp3.http.wire import ExtractRequest, JobView

VERSION: Final = "3.1.0"


_PROBLEM_SCHEMA: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "pattern": "^[a-z_]+$"},
    },
    "additionalProperties": False,
}
_JOB_ID: Final = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{JOB_ID.pattern}$"},
}


def document(version: str) -> dict[str, Any]:
    """Return the OpenAPI document of this version of the service."""
    (_, _), components = msgspec.json.schema_components(
        [ExtractRequest, JobView], ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": VERSION,
        "info": {
            "title": "ytmp3",
            "version": version,
            "description": "A YouTube link becomes a verified MP3. You need the right to convert what you convert.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{}, {"apiKey": []}, {"bearer": []}],
        "paths": _paths(ROUTES),
        "components": {
            "schemas": components | {"Problem": _PROBLEM_SCHEMA},
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


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
        "responses": {str(status): _answer(status, content, method) for status, content in route.answers.items()},
    }
    parameters = [_JOB_ID] if "{job_id}" in route.path else []
    parameters += [{"name": name, "in": "header", "schema": {"type": "string"}} for name in route.fields]
    if parameters:
        operation["parameters"] = parameters
    if route.method == "POST":
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ExtractRequest"}}},
        }
    return operation


def _answer(status: int, content: str, method: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    media: dict[str, Any] | None
    match content:
        case "problem":
            media = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        case "json":
            media = {"application/json": {"schema": {"type": "object"}}}
        case "text":
            media = {"text/plain": {"schema": {"type": "string"}}}
        case "track":
            media = {name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES}
        case "none":
            media = None
        case schema:
            media = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if media is not None and method != "head":
        answer["content"] = media
    if status in {429, 503} and content == "problem":
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "required": True}}
    return answer
