"""Cleaning of metadata: any text becomes harmless, and harmless text stays as it is."""

import math
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_youtube import HOSTILE_TITLES
from ytmp3.converter.youtube.describing import description_of
from ytmp3.converter.youtube.events import MAX_LINE_BYTES
from ytmp3.converter.youtube.metadata import (
    MAX_CHAPTERS,
    MAX_CHAPTERS_BYTES,
    MAX_TITLE_CHARACTERS,
    UNTITLED,
    clean_duration,
    clean_metadata,
    clean_text,
    clean_thumbnail_url,
    next_chapter_seconds,
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
    cleaned = clean_metadata(
        {
            "title": title,
            "uploader": title,
            "artists": [title, title],
            "track": title,
            "album": title,
            "chapters": [{"start_time": 0, "title": title}, {"start_time": 5, "title": title}],
        }
    )
    assert is_harmless(cleaned.title)
    texts = (cleaned.uploader, cleaned.artist, cleaned.track, cleaned.album, *(each.title for each in cleaned.chapters))
    assert all(is_harmless(text or "") for text in texts)
    assert 0 < len(cleaned.title) <= MAX_TITLE_CHARACTERS


@pytest.mark.parametrize("title", [None, 7, [], {"a": 1}, "", " \t ", "\u202e\u2066", "\x00", "\ud800"])
def test_a_missing_title_becomes_untitled(title: object) -> None:
    assert clean_metadata({"title": title, "uploader": title}).title == UNTITLED


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
    ("video", "uploader", "artist"),
    [
        ({"artists": ["One", "Two", "One", 7], "uploader": "Two - Topic", "channel": "x"}, "Two", "One, Two"),
        ({"artist": "One, Two", "uploader": "Two - Topic"}, "Two", "One, Two"),
        ({"artist": None, "uploader": "The Band - Topic"}, "The Band", None),
        ({"channel": "Off - Topic - Topic"}, "Off - Topic", None),
        ({"uploader": "Topic", "channel": "x"}, "Topic", None),
        ({"uploader": "A - Topical"}, "A - Topical", None),
        ({"uploader": 7, "artists": {}}, None, None),
        ({}, None, None),
    ],
)
def test_the_artists_are_those_of_youtube_music_and_the_channel_is_without_topic(
    video: dict[str, object], uploader: str | None, artist: str | None
) -> None:
    cleaned = clean_metadata(video)
    assert (cleaned.uploader, cleaned.artist) == (uploader, artist)


@pytest.mark.parametrize(("value", "year"), [(2011, 2011), ("2011", None), (True, None), (0, None), (10_000, None)])
def test_a_year_is_a_number_of_at_most_four_digits(value: object, year: int | None) -> None:
    assert clean_metadata({"release_year": value}).release_year == year


def chapters_of(*rows: object, duration: object = 100) -> list[tuple[float, str]]:
    cleaned = clean_metadata({"duration": duration, "chapters": list(rows)})
    return [(each.start_seconds, each.title) for each in cleaned.chapters]


def test_chapters_begin_later_and_later_before_the_end_and_have_titles() -> None:
    def row(start: object, title: object = "x") -> dict[str, object]:
        return {"start_time": start, "title": title}

    assert chapters_of(
        row(0, "<Untitled Chapter 1>"), row(5, "A"), row(5), row(4), row(-1), row(math.nan), row("9"), row(True), 7,
        row(60.00049, None), row(100), row(math.inf),
    ) == [(0, "Chapter 1"), (5, "A"), (60.0, "Chapter 3")]  # fmt: skip
    assert chapters_of(row(0)) == []
    assert clean_metadata({"chapters": {"a": 1}}).chapters == ()
    assert chapters_of(row(0), row(1e6), duration=None) == [(0, "x"), (1e6, "x")]
    many = chapters_of(*(row(number, "é" * 300) for number in range(300)), duration=1000)
    assert len(many) == MAX_CHAPTERS
    assert many[-1][0] == MAX_CHAPTERS - 1
    assert 0.9 * MAX_CHAPTERS_BYTES < sum(len(title.encode()) for _, title in many) <= MAX_CHAPTERS_BYTES


@pytest.mark.parametrize(("count", "following"), [(0, None), (200, None), (201, 200.0), (300, 200.0)])
def test_the_start_of_the_first_chapter_that_is_left_out_is_known(count: int, following: float | None) -> None:
    video = {"duration": 1000, "chapters": [{"start_time": number, "title": "x"} for number in range(count)]}
    assert len(clean_metadata(video).chapters) == min(count, MAX_CHAPTERS)
    assert next_chapter_seconds(video) == following
    described = description_of(video)
    assert (described.metadata.chapters, described.next_chapter_seconds) == (clean_metadata(video).chapters, following)


def test_the_longest_metadata_fits_a_line_of_the_child() -> None:
    worst = '\\"' * 1000
    chapters = [{"start_time": number + 0.001, "title": worst} for number in range(1000)]
    video = dict.fromkeys(("title", "uploader", "artist", "track", "album"), worst) | {"chapters": chapters}
    assert len(msgspec.json.encode(clean_metadata(video))) < 0.5 * MAX_LINE_BYTES
