"""Cleaning of metadata: any text becomes harmless, and harmless text stays as it is."""

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_youtube import HOSTILE_TITLES
from ytmp3.converter.youtube.metadata import (
    MAX_TITLE_CHARACTERS,
    UNTITLED,
    artist_of,
    clean_duration,
    clean_metadata,
    clean_text,
    clean_thumbnail_url,
    without_queries,
)

ANY_TEXT = st.text(st.characters(codec=None))


def is_harmless(text: str) -> bool:
    text.encode()  # no surrogate
    return all(
        character in "\u200c\u200d" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        for character in text
    )


@given(ANY_TEXT)
def test_any_text_becomes_harmless_and_bounded(text: str) -> None:
    cleaned = clean_text(text, 50)
    assert is_harmless(cleaned)
    assert len(cleaned) <= 50
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned


@given(ANY_TEXT)
def test_cleaning_a_clean_text_changes_nothing(text: str) -> None:
    assert clean_text(clean_text(text, 300), 300) == clean_text(text, 300)


@pytest.mark.parametrize(
    "title",
    [
        "Für Elise",
        "日本語の歌",
        "مرحبا",
        "नमस्ते",
        "می\u200cخواهم",
        "\U0001f469\u200d\U0001f467",
        "a/b: c? <d> \"e\" 'f'",
    ],
)
def test_a_good_title_stays_as_it_is(title: str) -> None:
    assert clean_text(title, 300) == title


@pytest.mark.parametrize("title", HOSTILE_TITLES)
def test_a_hostile_title_becomes_harmless(title: str) -> None:
    cleaned = clean_metadata(title=title, uploader=title, duration=1, thumbnail_url=None)
    assert is_harmless(cleaned.title)
    assert 0 < len(cleaned.title) <= MAX_TITLE_CHARACTERS


@pytest.mark.parametrize("title", [None, 7, [], {"a": 1}, "", " \t ", "\u202e\u2066", "\x00", "\ud800"])
def test_a_missing_title_becomes_untitled(title: object) -> None:
    assert clean_metadata(title=title, uploader=title, duration=None, thumbnail_url=None).title == UNTITLED


def test_combining_marks_in_a_row_are_bounded() -> None:
    assert len(clean_text("z" + "\u0335" * 1000, 2000)) < 20


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1e300, True, "30", None, []])
def test_a_value_that_is_not_a_duration_is_dropped(value: object) -> None:
    assert clean_duration(value) is None


def test_a_duration_is_kept_in_seconds() -> None:
    assert clean_duration(30) == 30.0


@pytest.mark.parametrize(
    ("url", "is_kept"),
    [
        ("https://i.ytimg.com/vi/dQw4w9WgXcQ/hq720.jpg", True),
        ("https://i.ytimg.com/vi/x/hqdefault.jpg?sqp=-oaymw==&rs=AOn4C", True),
        ("http://i.ytimg.com/vi/x/hq720.jpg", False),
        ("https://i.ytimg.com.evil.example/x.jpg", False),
        ("https://evil.example/i.ytimg.com/x.jpg", False),
        ("https://i.ytimg.com/\r\nX: 1", False),
        ('https://i.ytimg.com/"><script>', False),
        ("javascript:alert(1)", False),
        ("https://i.ytimg.com/" + "a" * 500, False),
        (None, False),
    ],
)
def test_only_plain_https_addresses_on_picture_hosts_are_kept(url: object, is_kept: bool) -> None:
    assert clean_thumbnail_url(url) == (url if is_kept else None)


def test_an_address_in_a_message_is_cut_to_its_host() -> None:
    message = "GET https://rr1.googlevideo.com/videoplayback?sig=SECRET&ip=1.2.3.4 failed, 'http://a/b?c'"
    assert without_queries(message) == "GET https://rr1.googlevideo.com/... failed, 'http://a/...'"


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h", "SOCKS4a", "redis+x"])
@pytest.mark.parametrize("password", ["secret", "se@secret", "secret%40", ":secret:"])
def test_a_password_in_an_address_is_cut_too(scheme: str, password: str) -> None:
    message = without_queries(f"proxy {scheme}://user:{password}@proxy.example:3128 refused")
    assert message == f"proxy {scheme}://proxy.example:3128/... refused"


@pytest.mark.parametrize(
    ("video", "artist"),
    [
        ({"artist": "One, Two", "uploader": "Two - Topic", "channel": "Two - Topic"}, "One, Two"),
        ({"artist": None, "uploader": "The Band - Topic"}, "The Band"),
        ({"channel": "Off - Topic - Topic"}, "Off - Topic"),
        ({"uploader": "Topic", "channel": "x"}, "Topic"),
        ({"uploader": "A - Topical"}, "A - Topical"),
        ({"uploader": 7}, 7),
        ({}, None),
    ],
)
def test_the_artist_is_the_one_of_youtube_music_or_the_channel_without_topic(
    video: dict[str, object], artist: object
) -> None:
    assert artist_of(video) == artist
