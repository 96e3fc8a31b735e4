"""The OpenAPI document and the parsers accept the same values for the fields of a recipe."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3 import __version__
from ytmp3.core.cut import MAX_POSITION_SECONDS, POSITION_PATTERN, parse_position
from ytmp3.core.errors import RequestError
from ytmp3.core.language import LANGUAGE_PATTERN, MAX_CHARACTERS, parse_language
from ytmp3.core.loudness import LOUDNESS_PATTERN, parse_loudness
from ytmp3.http.body import parse_batch_request, parse_extract_request
from ytmp3.http.openapi import document

DOCUMENT: Final = document(__version__)
PARSERS: Final[Mapping[str, Callable[[object], object]]] = {
    "end": parse_position,
    "language": parse_language,
    "loudness": parse_loudness,
}
PATTERNS: Final = {"end": POSITION_PATTERN, "language": LANGUAGE_PATTERN, "loudness": LOUDNESS_PATTERN}
LINK: Final = "https://youtu.be/dQw4w9WgXcQ?t=1s"

letters = st.text("0123456789-_:. \t\nhmsHMSlufsLUFStagsTAGSoOfFrigRIGnNadeKé٣", max_size=12)
"""Texts that are nearly right, and characters that count as letters, digits or spaces for some programs only."""
numbers = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-35, 0)
    | st.integers(359_990, 360_010)
)


def accepts(model: str, field: str) -> Draft202012Validator:
    """Return the schema of a field of a request."""
    schema: dict[str, Any] = DOCUMENT["components"]["schemas"][model]["properties"][field]
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def changed(text: str, place: int, inserted: str) -> str:
    """Return a text with one character replaced."""
    at = place % (len(text) + 1)
    return text[:at] + inserted + text[at + 1 :]


def values_of(field: str) -> st.SearchStrategy[object]:
    right = st.from_regex(PATTERNS[field], fullmatch=True)
    return st.one_of(right, st.builds(changed, right, st.integers(0, 40), letters), letters, numbers, st.booleans())


@pytest.mark.parametrize("field", PARSERS)
def test_the_schema_of_a_field_accepts_what_its_parser_does(field: str) -> None:
    schemas = [accepts(model, field) for model in ("ExtractRequest", "BatchRequest")]

    @settings(max_examples=200 * FUZZ_FACTOR)
    @given(values_of(field))
    @example("9999:00")
    @example("99h60m")
    @example(MAX_POSITION_SECONDS)
    @example("a" * MAX_CHARACTERS)
    @example("lin\N{KELVIN SIGN}")
    @example("\N{NO-BREAK SPACE}90")
    def check(value: object) -> None:
        assert {schema.is_valid(value) for schema in schemas} == {PARSERS[field](value) is not None}

    check()


def is_accepted(field: str, value: object) -> bool:
    """Tell whether requests with this value are accepted."""
    try:
        read = parse_extract_request(json.dumps({"url": LINK, field: value}).encode()).recipe
        if not (isinstance(value, str) and "link" in value.lower()):
            assert parse_batch_request(json.dumps({"urls": [LINK], field: value}).encode()).recipe == read
    except RequestError:
        return False
    # A value is never replaced by the default without a word.
    assert field != "start" or read.cut.start_ms == (
        parse_position(value) if parse_position(value) is not None else 1000
    )
    return True


@pytest.mark.parametrize("field", ["start", "language", "loudness"])
def test_a_request_is_accepted_if_the_schema_of_its_field_accepts_the_value(field: str) -> None:
    schema = accepts("ExtractRequest", field)
    links = st.sampled_from(["link", " LINK\n", "Link", "links", "lin\N{KELVIN SIGN}"])
    values = (values_of("end") | links) if field == "start" else values_of(field)

    @settings(max_examples=100 * FUZZ_FACTOR)
    @given(values)
    def check(value: object) -> None:
        assert is_accepted(field, value) == schema.is_valid(value)

    check()


@pytest.mark.parametrize("field", ["quality", "format"])
def test_every_value_that_an_enumeration_lists_is_accepted(field: str) -> None:
    """The parser accepts more spellings: generated clients have the listed values as a type of their own."""
    listed = DOCUMENT["components"]["schemas"][field.title()]["enum"]
    assert len(listed) >= 3
    for value in listed:
        assert is_accepted(field, value)


def test_the_patterns_need_no_flags_of_an_engine() -> None:
    for pattern in PATTERNS.values():
        assert not re.search(r"\(\?[^:]|\\[dswbDSWB]", pattern)
