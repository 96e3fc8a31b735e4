"""The text on the terminal when the service has started."""

from pathlib import Path

import pytest

from ytmp3 import __version__
from ytmp3.config import load
from ytmp3.greeting import greeting

URL = "http://127.0.0.1:8080"


def test_the_greeting_has_the_address_the_data_folder_the_keys_and_how_to_stop() -> None:
    lines = greeting(load({"DATA_DIR": "/srv/ytmp3"}), URL, free_bytes=76_500_000_000).splitlines()
    assert lines[0] == f"ytmp3 {__version__} on {URL}   (this machine only; HOST=0.0.0.0 opens it)"
    assert lines[1].split() == ["page", f"{URL}/"]
    assert lines[2].split() == ["data", "/srv/ytmp3,", "76", "GB", "free;", "jobs", "in", "SQLite"]
    assert lines[3].split()[:2] == ["keys", "none:"]
    assert f"curl {URL}/extract" in lines[4]
    assert "Ctrl-C" in lines[5]


def test_a_page_that_is_off_is_not_named() -> None:
    assert "page" not in greeting(load({"PAGE": "off"}), URL, free_bytes=0)


@pytest.mark.parametrize(("host", "is_local"), [("::1", True), ("localhost", True), ("0.0.0.0", False), ("web", False)])
def test_only_a_loopback_address_is_called_local(host: str, *, is_local: bool) -> None:
    first = greeting(load({"HOST": host}), URL, free_bytes=0).splitlines()[0]
    assert ("this machine only" in first) is is_local


def test_the_greeting_names_redis_and_the_keys_file_without_secrets() -> None:
    environ = {"REDIS_ADDR": "redis://:secret@redis", "API_KEYS_FILE": __file__, "DATA_DIR": str(Path.home() / "music")}
    text = greeting(load(environ), URL, free_bytes=0)
    assert "secret" not in text
    assert f"from {__file__}" in text
    assert "~/music" in text
    assert "jobs in Redis" in text
