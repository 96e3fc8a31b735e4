"""The OpenAPI document: complete enough for people and for generators of clients."""

from typing import Any

import msgspec
import pytest

from ytmp3 import __version__
from ytmp3.http.openapi import document
from ytmp3.http.openapi_texts import COMMON_FIELDS, EXAMPLES
from ytmp3.http.routes import ROUTES, Route

DOCUMENT = document(__version__)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def test_every_field_has_a_description_and_every_description_a_field() -> None:
    fields = {field: form for schema in SCHEMAS.values() for field, form in schema.get("properties", {}).items()}
    assert [field for field, form in fields.items() if not form.get("description")] == []
    assert sorted(COMMON_FIELDS.keys() - fields.keys()) == []
    assert [name for name, schema in SCHEMAS.items() if not schema.get("description")] == []


def test_every_example_is_a_value_of_its_type() -> None:
    shown = {name: schema["examples"] for name, schema in SCHEMAS.items() if "examples" in schema}
    assert shown.keys() == {type(example).__name__ for example in EXAMPLES}
    for example in EXAMPLES:
        (value,) = shown[type(example).__name__]
        assert msgspec.convert(value, type(example)) == example


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
def test_each_operation_names_its_group_its_security_and_its_responses(route: Route) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    assert operation["summary"].endswith(".")
    # An empty list overrides the document's: no key is needed.
    assert ("security" in operation) is (not (route.is_limited and route.needs_key))
    assert DOCUMENT["security"] == [{}, {"apiKey": []}, {"bearer": []}]


def test_health_and_stats_are_typed() -> None:
    for path, name in (("/health", "HealthView"), ("/stats", "StatsView"), ("/health/live", "LiveView")):
        content = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]
        assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}
    assert SCHEMAS["Readiness"]["enum"] == ["degraded", "draining", "ok", "unready"]
