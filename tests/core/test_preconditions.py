"""Ranges and preconditions, against tables made from RFC 9110, and against slices of a byte string as a model."""

import random
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3.http.preconditions import (
    Decision,
    Failed,
    NotModified,
    Part,
    Preconditions,
    Representation,
    Unsatisfiable,
    Whole,
    evaluate,
)

SIZE = 10_240
ETAG = '"' + "ab" * 32 + '"'
MODIFIED = 1_700_000_000
TRACK = Representation(etag=ETAG, modified_at=MODIFIED, size_bytes=SIZE)
OTHER = '"other"'


def http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


MODIFIED_DATE = http_date(MODIFIED)


def decision(*ranges: str, is_get: bool = True, if_range: str | None = None) -> Decision:
    return evaluate(TRACK, Preconditions(ranges=ranges, if_range=if_range), is_get=is_get)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        # one range
        ("bytes=0-9", Part(0, 9)),
        ("bytes=10239-", Part(10_239, 10_239)),
        ("bytes=0-", Part(0, 10_239)),
        ("bytes=-5", Part(10_235, 10_239)),
        ("bytes=-99999", Part(0, 10_239)),
        ("bytes=-99999999999999999999999", Part(0, 10_239)),
        ("bytes=0-99999999999999999999999", Part(0, 10_239)),
        ("bytes=0-0", Part(0, 0)),
        ("bytes=10239-10239", Part(10_239, 10_239)),
        ("bytes=0-10240", Part(0, 10_239)),
        ("bytes=00000000000000000000000005-6", Part(5, 6)),
        ("bytes=5-000000000000000000000000006", Part(5, 6)),
        ("bytes=-0000000000000000000000000001", Part(10_239, 10_239)),
        ("bytes= 0-9", Part(0, 9)),
        ("bytes=0-9 ", Part(0, 9)),
        ("Bytes=0-9", Part(0, 9)),
        # a range outside the file
        ("bytes=10240-", Unsatisfiable()),
        ("bytes=10240-10250", Unsatisfiable()),
        ("bytes=99999999999999999999999-", Unsatisfiable()),
        ("bytes=99999999999999999999998-99999999999999999999999", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=-000", Unsatisfiable()),
        # several ranges are not served in parts
        ("bytes=0-0,5-6", Whole()),
        ("bytes=" + ",".join("0-10239" for _ in range(300)), Whole()),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(10_000)), Whole()),
        # a malformed range is ignored
        ("bytes=5-2", Whole()),
        ("bytes=20000-15000", Whole()),
        ("bytes=10-00000000000000000000005", Whole()),
        ("bytes=99999999999999999999999-5", Whole()),
        ("bytes=a-b", Whole()),
        ("bytes=", Whole()),
        ("=", Whole()),
        ("", Whole()),
        ("bytes=-", Whole()),
        ("bytes=--5", Whole()),
        ("bytes=0-5-9", Whole()),
        ("bytes 0-5", Whole()),
        ("bytes = 0-5", Whole()),
        ("bytes=+0-5", Whole()),
        ("bytes=0x0-0x5", Whole()),
        ("bytes=٠-٩", Whole()),
        ("bytes=0-5;", Whole()),
        ("items=0-5", Whole()),
        ("bytes=0-5\n", Whole()),
    ],
)  # fmt: skip
def test_a_range_is_decided_as_the_table_says(field: str, expected: Decision) -> None:
    assert decision(field) == expected


def test_two_range_fields_are_ignored() -> None:
    assert decision("bytes=0-9", "bytes=20-29") == Whole()


def test_head_ignores_a_range() -> None:
    assert decision("bytes=0-9", is_get=False) == Whole()
    assert decision("bytes=10240-", is_get=False) == Whole()


@pytest.mark.parametrize("field", ["bytes=-5", "bytes=0-", "bytes=0-0", "bytes=-0"])
def test_no_range_of_an_empty_file_is_satisfiable(field: str) -> None:
    empty = Representation(etag=ETAG, modified_at=MODIFIED, size_bytes=0)
    assert evaluate(empty, Preconditions(ranges=(field,)), is_get=True) == Unsatisfiable()


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (ETAG, True),
        (http_date(MODIFIED), True),
        (OTHER, False),
        ("W/" + ETAG, False),
        (f"{ETAG}, {OTHER}", False),
        (ETAG.strip('"'), False),
        (http_date(MODIFIED - 1), False),
        (http_date(MODIFIED + 1), False),
        ("*", False),
        ("", False),
        ("garbage", False),
        ("W/", False),
    ],
)
def test_a_range_applies_only_to_the_very_same_track(if_range: str, *, applies: bool) -> None:
    assert decision("bytes=0-9", if_range=if_range) == (Part(0, 9) if applies else Whole())
    assert decision("bytes=10240-", if_range=if_range) == (Unsatisfiable() if applies else Whole())


@pytest.mark.parametrize(
    ("preconditions", "expected"),
    [
        # If-None-Match compares weakly
        (Preconditions(if_none_match=ETAG), NotModified()),
        (Preconditions(if_none_match="W/" + ETAG), NotModified()),
        (Preconditions(if_none_match="*"), NotModified()),
        (Preconditions(if_none_match=" * "), NotModified()),
        (Preconditions(if_none_match=", ".join([OTHER] * 999 + [ETAG])), NotModified()),
        (Preconditions(if_none_match=", ".join([OTHER] * 1000)), Whole()),
        (Preconditions(if_none_match="garbage"), Whole()),
        (Preconditions(if_none_match='"'), Whole()),
        (Preconditions(if_none_match=""), Whole()),
        # If-Match compares strongly
        (Preconditions(if_match=OTHER), Failed()),
        (Preconditions(if_match="W/" + ETAG), Failed()),
        (Preconditions(if_match="garbage"), Failed()),
        (Preconditions(if_match=ETAG), Whole()),
        (Preconditions(if_match="*"), Whole()),
        (Preconditions(if_match=f"{OTHER}, {ETAG}"), Whole()),
        (Preconditions(if_unmodified_since=http_date(MODIFIED - 1)), Failed()),
        (Preconditions(if_unmodified_since=http_date(MODIFIED)), Whole()),
        (Preconditions(if_unmodified_since="garbage"), Whole()),
        (Preconditions(if_modified_since=http_date(MODIFIED)), NotModified()),
        (Preconditions(if_modified_since=http_date(MODIFIED + 9)), NotModified()),
        (Preconditions(if_modified_since=http_date(MODIFIED - 1)), Whole()),
        (Preconditions(if_modified_since="garbage"), Whole()),
        # the order of section 13.2.2: tags before dates, If-Match before If-None-Match, both before Range
        (Preconditions(if_match=ETAG, if_unmodified_since=http_date(MODIFIED - 1)), Whole()),
        (Preconditions(if_none_match=OTHER, if_modified_since=http_date(MODIFIED)), Whole()),
        (Preconditions(if_match=OTHER, if_none_match=ETAG), Failed()),
        (Preconditions(if_none_match=ETAG, ranges=("bytes=0-9",)), NotModified()),
        (Preconditions(if_match=OTHER, ranges=("bytes=0-9",)), Failed()),
        (Preconditions(if_match=ETAG, ranges=("bytes=0-9",)), Part(0, 9)),
        (Preconditions(if_unmodified_since=http_date(MODIFIED), ranges=("bytes=0-9",)), Part(0, 9)),
        (Preconditions(if_none_match=OTHER, ranges=("bytes=10240-",)), Unsatisfiable()),
    ],
)
def test_a_precondition_is_decided_as_the_rfc_says(preconditions: Preconditions, expected: Decision) -> None:
    assert evaluate(TRACK, preconditions, is_get=True) == expected
    without_range = Preconditions(
        if_match=preconditions.if_match,
        if_none_match=preconditions.if_none_match,
        if_modified_since=preconditions.if_modified_since,
        if_unmodified_since=preconditions.if_unmodified_since,
    )
    head = expected if isinstance(expected, Failed | NotModified) else Whole()
    assert evaluate(TRACK, without_range, is_get=False) == head


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_all_three_forms_of_a_date_are_in_gmt_wherever_the_server_is(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        track = Representation(etag=ETAG, modified_at=784_111_777, size_bytes=SIZE)
        for text in (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ):
            assert evaluate(track, Preconditions(if_range=text, ranges=("bytes=0-9",)), is_get=True) == Part(0, 9), text
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 +0000", "Sun, 06 Nov 1994 09:49:37 +0100", "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 08:49:37 EST", "Sun, 06 Nov 1994 08:49:37 -0000",
        "06 Nov 1994 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT", "sun, 06 nov 1994 08:49:37 gmt", "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06 Nov 1994 08:49:37 GMT, x", "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT", "Sun Nov 6 08:49:37 1994", "Sun Nov  6 08:49:37 1994 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
        "1994-11-06T08:49:37Z", "784111777", "Sun, 0\u0666 Nov 1994 08:49:37 GMT",
    ],
)  # fmt: skip
def test_a_malformed_http_date_is_ignored(text: str) -> None:
    for modified_at in (0, 784_111_777, 2**31):
        track = Representation(etag=ETAG, modified_at=modified_at, size_bytes=SIZE)
        assert evaluate(track, Preconditions(if_modified_since=text), is_get=True) == Whole()
        assert evaluate(track, Preconditions(if_unmodified_since=text), is_get=True) == Whole()
        assert evaluate(track, Preconditions(if_range=text, ranges=("bytes=0-9",)), is_get=True) == Whole()


def model(content: bytes, ranges: list[str], if_range: str | None) -> tuple[int, bytes]:
    """Return the expected status and bytes, computed with slices of the content."""
    if len(ranges) != 1 or if_range not in {None, ETAG, MODIFIED_DATE}:
        return 200, content
    unit, _, spec = ranges[0].partition("=")
    first, dash, last = spec.strip(" \t").partition("-")
    digits = [text for text in (first, last) if text]
    if unit.lower() != "bytes" or not dash or not digits or not all(t.isascii() and t.isdecimal() for t in digits):
        return 200, content
    if not first:
        part = content[max(0, len(content) - int(last)) :]
        return (206, part) if part else (416, b"")
    if last and int(last) < int(first):
        return 200, content
    part = content[int(first) : int(last) + 1] if last else content[int(first) :]
    return (206, part) if part else (416, b"")


def decided(content: bytes, ranges: list[str], if_range: str | None) -> tuple[int, bytes]:
    track = Representation(etag=ETAG, modified_at=MODIFIED, size_bytes=len(content))
    match evaluate(track, Preconditions(if_range=if_range, ranges=ranges), is_get=True):
        case Part(first, last):
            assert 0 <= first <= last < len(content)
            return 206, content[first : last + 1]
        case Unsatisfiable():
            return 416, b""
        case other:
            assert other == Whole()
            return 200, content


def test_random_requests_are_decided_as_by_slices_of_a_byte_string() -> None:
    rng = random.Random(9110)
    seen: set[int] = set()

    def number(size: int) -> str:
        value = rng.choice((rng.randrange(size + 3), 0, size - 1, size, size + 1, 10 ** rng.randrange(19)))
        return rng.choice(("", "", "", "0", "000000000000000000000")) + str(value)

    def spec(size: int) -> str:
        return rng.choice(
            (
                f"{number(size)}-{number(size)}",
                f"{number(size)}-",
                f"-{number(size)}",
                "-",
                number(size),
                f"{number(size)}-{number(size)}-{number(size)}",
                f"{number(size)}-{number(size)},{number(size)}-",
                f" {number(size)}-{number(size)}\t",
                "".join(rng.choice("0123456789-, ax=") for _ in range(rng.randrange(8))),
            )
        )

    validators = (None, None, ETAG, ETAG, OTHER, "W/" + ETAG, MODIFIED_DATE, http_date(MODIFIED - 1), "x", "")
    for _ in range(20_000 * FUZZ_FACTOR):
        size = rng.choice((1, 2, 10, 100))
        content = rng.randbytes(size)
        unit = rng.choice(("bytes=", "bytes=", "bytes=", "bytes=", "BYTES=", "items=", "bytes", ""))
        ranges = [unit + spec(size) for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 2)))]
        if_range = rng.choice(validators)
        expected = model(content, ranges, if_range)
        assert decided(content, ranges, if_range) == expected, (ranges, if_range, size)
        seen.add(expected[0])
    assert seen == {200, 206, 416}


fields = st.one_of(
    st.none(),
    st.text(max_size=30),
    st.text("\"W/*, abc\\'", max_size=20),
    st.text("SunMoGMT,: -+0123456789", max_size=40),
    st.integers(-(10**13), 10**13).map(lambda n: f"Sun, 06 Nov {n} 08:49:37 GMT"),
)


@given(fields, fields, fields, fields, fields, st.lists(st.text(max_size=20), max_size=2))
def test_no_header_is_too_strange_to_be_evaluated(
    if_match: str | None, if_none_match: str | None, since: str | None, until: str | None, if_range: str | None,
    ranges: list[str],
) -> None:  # fmt: skip
    preconditions = Preconditions(
        if_match=if_match, if_none_match=if_none_match, if_modified_since=since, if_unmodified_since=until,
        if_range=if_range, ranges=ranges,
    )  # fmt: skip
    evaluate(TRACK, preconditions, is_get=True)


@pytest.mark.parametrize("filling", ['"', "W/", '"a', "1", "-", ",", " ", "Sun ", '"a",', "0-1,", "+", ":"])
def test_a_header_of_eight_kilobytes_is_evaluated_in_linear_time(filling: str) -> None:
    text = (filling * 8190)[:8190]
    began_at = time.process_time()
    for field in ("if_match", "if_none_match", "if_modified_since", "if_unmodified_since", "if_range"):
        evaluate(TRACK, Preconditions(**{field: text}, ranges=("bytes=" + text,)), is_get=True)
    # CPU time, which other programs do not add to. It takes a few milliseconds; a quadratic pattern takes seconds.
    assert time.process_time() - began_at < 1.0
