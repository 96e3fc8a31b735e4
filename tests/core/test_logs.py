"""Logs: one event is one line, whatever text it holds, and shows no secret of a URL."""

import io
import json
import logging
import random
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3 import logs
from ytmp3.logs import MAX_TEXT_CHARACTERS, JsonFormatter, TextFormatter, clean

MEDIA = "https://rr3---sn-4g5e6nzz.googlevideo.com/videoplayback?expire=1700000000&ip=198.51.100.7&signature=SECRET&pot=SECRET"
HARMFUL = [
    chr(n)
    for n in (*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
]

HARMFUL_TEXT = re.compile("[" + "".join(map(re.escape, HARMFUL)) + "\ud800-\udfff]")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger. Its handlers and its level are restored after the test."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def event(message: str, **extra: Any) -> dict[str, Any]:
    line = JsonFormatter().format(record(message, **extra))
    assert_is_one_safe_line(line)
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def record(message: str, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("ytmp3.test").makeRecord(
        "ytmp3.test", logging.WARNING, __file__, 1, message, (), None, extra=extra
    )


def assert_is_one_safe_line(line: str) -> None:
    assert HARMFUL_TEXT.search(line) is None
    line.encode()


def test_an_event_is_a_json_object_with_its_fields() -> None:
    parsed = event("job accepted", job_id="ab", count=3, share=0.5, ok=True, nothing=None)
    assert parsed.pop("time").endswith("Z")
    assert parsed == {
        "level": "warning", "event": "job accepted", "logger": "ytmp3.test",
        "job_id": "ab", "count": 3, "share": 0.5, "ok": True, "nothing": None,
    }  # fmt: skip


def test_an_event_names_the_current_request_and_conversion() -> None:
    request, conversion = logs.request_id.set("req-1"), logs.conversion_id.set("conv-1")
    try:
        parsed = event("x")
    finally:
        logs.request_id.reset(request)
        logs.conversion_id.reset(conversion)
    assert (parsed["request_id"], parsed["conversion_id"]) == ("req-1", "conv-1")
    assert "request_id" not in event("x")


@pytest.mark.parametrize(
    "text",
    [
        'a\n{"level":"critical","event":"forged"}',
        "a\r\nb",
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\u202egnp.exe",
        "a\u2028b\u2029c\u0085d",
        "\ud800 \udfff",
        "\x00\x7f",
        '","x":"',
        "</script><script>",
    ],
)
def test_no_text_begins_a_line_of_its_own(text: str) -> None:
    for parsed in (event(text), event("x", title=text), event("x", titles=[text, {text: text}])):
        assert parsed["level"] == "warning"
    line = TextFormatter().format(record(text, title=text, titles=(text,)))
    assert_is_one_safe_line(line)


def test_escaped_characters_stay_recognizable() -> None:
    assert clean("a\nb\x1b\u202e\ud800") == "a\\nb\\u001b\\u202e\\ud800"


def test_10_000_events_with_hostile_text_are_10_000_lines(root: logging.Logger) -> None:
    stream = io.StringIO()
    logs.set_up(style="json", level="info", stream=stream)
    rng = random.Random(22)
    logger = logging.getLogger("ytmp3.test")
    for _ in range(10_000):
        text = "".join(
            rng.choice(HARMFUL) if rng.random() < 0.3 else chr(rng.randrange(0x110000))
            for _ in range(rng.randrange(12))
        )
        logger.warning("event %s", text, extra={"title": text})
    lines = stream.getvalue().split("\n")
    assert lines.pop() == ""
    assert len(lines) == 10_000
    for line in lines:
        assert_is_one_safe_line(line)
        json.loads(line)


@given(st.text(), st.dictionaries(st.text(), st.one_of(st.integers(), st.floats(), st.text(), st.binary())))
def test_any_value_can_be_logged(message: str, value: dict[str, Any]) -> None:
    assert event(message.replace("%", "%%"), value=value)["level"] == "warning"


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**30])
def test_an_integer_of_more_than_64_bits_becomes_text(number: int) -> None:
    assert int(event("x", number=number)["number"]) == number


def test_sets_bytes_and_objects_are_shown_as_text() -> None:
    parsed = event("x", kinds=frozenset({"a"}), raw=b"\xff\n", error=ValueError("a\nb"), infinite=float("inf"))
    assert parsed["kinds"] == ["a"]
    assert parsed["raw"] == "b'\\xff\\n'"
    assert parsed["error"] == "a\\nb"
    assert parsed["infinite"] is None


@pytest.mark.parametrize(
    "text",
    [
        MEDIA,
        f"HTTP Error 403 for {MEDIA} (retrying)",
        f'{{"url": "{MEDIA}"}}',
        f"'{MEDIA}'",
        MEDIA.replace("https", "HTTPS"),
        f"{MEDIA}?again={MEDIA}",
        f"{MEDIA}\n{MEDIA}",
        MEDIA + "&x=" + "y" * 10_000,
    ],
)
def test_the_query_of_a_link_is_cut_off(text: str) -> None:
    for shown in (event(text)["event"], event("x", detail=text)["detail"]):
        assert "SECRET" not in shown
        assert "198.51.100.7" not in shown
        assert "googlevideo.com/videoplayback?..." in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:SECRET@proxy.example:3128", "http://...@proxy.example:3128"),
        ("socks5://user:SECRET@proxy.example:1080/", "socks5://...@proxy.example:1080/"),
        ("SOCKS5H://SECRET@proxy.example", "SOCKS5H://...@proxy.example"),
        ("redis://:SECRET@redis:6379/0 does not answer", "redis://...@redis:6379/0 does not answer"),
        ("{'https': 'http://us@er:SE@CRET@[::1]:1'}", "{'https': 'http://...@[::1]:1'}"),
        ("""http://user:"SE'CRET"@proxy.example""", "http://...@proxy.example"),
        ("https://user:SECRET@proxy.example/a?b=SECRET#c", "https://...@proxy.example/a?..."),
        ("https://www.youtube.com/@handle?v=1 http://u:SECRET@h", "https://www.youtube.com/@handle?... http://...@h"),
    ],
)
def test_user_and_password_of_a_link_are_cut_out(text: str, shown: str) -> None:
    assert clean(text) == shown
    assert event("x", error=text)["error"] == shown


def test_a_link_without_a_query_is_left_unchanged() -> None:
    assert clean("see https://youtu.be/dQw4w9WgXcQ now? yes") == "see https://youtu.be/dQw4w9WgXcQ now? yes"


def test_a_query_is_cut_off_in_a_traceback_too() -> None:
    try:
        raise RuntimeError(f"{MEDIA} failed\nand went on")
    except RuntimeError:
        failed = record("worker failed")
        failed.exc_info = sys.exc_info()
    line = JsonFormatter().format(failed)
    assert_is_one_safe_line(line)
    parsed = json.loads(line)
    assert "SECRET" not in parsed["traceback"]
    assert parsed["traceback"].startswith("Traceback (most recent call last)")
    text = TextFormatter().format(failed)
    assert "SECRET" not in text
    assert len(text.splitlines()) > 3


def test_a_long_text_is_cut_and_a_long_traceback_keeps_its_end() -> None:
    shown = event("x" * 100_000)["event"]
    assert shown == "x" * MAX_TEXT_CHARACTERS + "..."

    def deep(depth: int) -> None:
        if depth == 0:
            raise RuntimeError("the cause")
        try:
            deep(depth - 1)
        except RuntimeError as error:
            raise RuntimeError(f"level {depth}") from error

    try:
        deep(50)
    except RuntimeError:
        failed = record("worker failed")
        failed.exc_info = sys.exc_info()
    trace = json.loads(JsonFormatter().format(failed))["traceback"]
    assert trace.endswith("RuntimeError: level 50")
    assert len(trace) == MAX_TEXT_CHARACTERS + 3


@pytest.mark.parametrize(
    "filling", ["http://", "https://a?", "?", "\n", "\x1b[", "'", "http://a'", "://", "://@", "://a@b", "@"]
)
def test_a_megabyte_on_one_line_is_cleaned_in_linear_time(filling: str) -> None:
    text = (filling * 1_000_000)[:1_000_000]
    began_at = time.process_time()
    assert len(clean(text)) <= MAX_TEXT_CHARACTERS + 3
    # CPU time, which other programs do not add to. It takes 0.3 s, and more while coverage is measured on a busy
    # machine; a quadratic pattern takes hours.
    assert time.process_time() - began_at < 60.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("style", "stream", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("text", io.StringIO(), False),
    ],
)
def test_auto_writes_text_to_a_terminal_and_json_elsewhere(
    style: str, stream: io.StringIO, root: logging.Logger, *, is_json: bool
) -> None:
    logs.set_up(style=style, level="info", stream=stream)
    logging.getLogger("ytmp3.test").info("job accepted", extra={"job_id": "ab"})
    logging.getLogger("ytmp3.test").debug("not shown")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.startswith("{") == is_json
    assert is_json or re.match(r"\d\d:\d\d:\d\dZ info    job accepted", line), "the time is UTC and says so"
    assert "job accepted" in line
    assert "ab" in line
    assert len(root.handlers) == 1
