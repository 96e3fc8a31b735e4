"""The header `Idempotency-Key`: bare or quoted, once, and of visible ASCII."""

import pytest

from ytmp3.http.errors import InvalidIdempotencyKey
from ytmp3.http.idempotency_key import parse_idempotency_key


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (" a\t", "a"), (r'"a\"b\\c"', r'a"b\c'), ('a"b', 'a"b'), ('"', '"'), ('"a', '"a'), ("a,b;c=1", "a,b;c=1"),
        ("~" * 255, "~" * 255), ('"' + "~" * 255 + '"', "~" * 255),
    ],
)  # fmt: skip
def test_a_key_may_be_bare_or_quoted(value: str, key: str) -> None:
    assert parse_idempotency_key([value]) == key


@pytest.mark.parametrize(
    "values",
    [[""], [" "], ['""'], ["a b"], ['"a b"'], ["~" * 256], ["é"], ["a\x7f"], ["a\x00"], ["a", "a"], ["a", ""]],
)
def test_any_other_value_is_refused(values: list[str]) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        parse_idempotency_key(values)


def test_a_request_without_the_header_has_no_key() -> None:
    assert parse_idempotency_key([]) is None
