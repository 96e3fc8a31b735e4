"""Tags of languages: one canonical spelling, and which audio track a tag names."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3.core.language import LANGUAGE_PATTERN, MAX_CHARACTERS, ORIGINAL, closeness, parse_language, tag_of_track

CANONICAL = r"original|[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"


@pytest.mark.parametrize(
    ("language", "spellings"),
    [
        (ORIGINAL, ["original", " Original\n", "ORIGINAL"]),
        ("de", ["de", "DE", " de "]),
        ("en-US", ["en-US", "en-us", "EN_US"]),
        ("zh-Hant-TW", ["zh-Hant-TW", "zh_hant_tw", "ZH-HANT-TW"]),
        ("es-419", ["es-419", "ES-419"]),
        ("sl-rozaj-1994", ["sl-rozaj-1994", "SL-ROZAJ-1994"]),
        ("fil", ["fil"]),
        ("he", ["he", "iw", "IW"]),
        ("id-ID", ["in-ID"]),
    ],
)
def test_a_language_has_one_canonical_spelling(language: str, spellings: list[str]) -> None:
    assert {parse_language(spelling) for spelling in spellings} == {language}
    assert re.fullmatch(CANONICAL, language)


@pytest.mark.parametrize(
    "value",
    ["", "e", "english", "en-", "-en", "en--US", "en-USA", "en US", "en-u-ca-buddhist", "x-klingon", "original-de",
     "de,x", "12", "dé", "en-US-desc", "de" + "-abcde" * 6, "en=US", None, True, 5, ["de"], {}],
)  # fmt: skip
def test_an_invalid_language_is_refused(value: object) -> None:
    assert parse_language(value) is None


@settings(max_examples=30 * FUZZ_FACTOR)
@given(st.one_of(st.from_regex(LANGUAGE_PATTERN, fullmatch=True), st.text(max_size=40)))
def test_the_canonical_spelling_is_read_back_as_it_is(text: str) -> None:
    language = parse_language(text)
    if language is not None:
        assert parse_language(language) == language
        assert re.fullmatch(CANONICAL, language)
        assert len(language) <= MAX_CHARACTERS


def test_an_audio_description_and_a_track_without_a_tag_have_no_language() -> None:
    tags = {"en-US": "en-US", "iw": "he", "en-US-desc": None, "desc": None, None: None, "?": None}
    assert {tag: tag_of_track(tag) for tag in tags} == tags


def test_a_track_fits_a_language_more_or_less_or_not_at_all() -> None:
    fits = {
        ("de", "de"): 3,
        ("de", "de-DE"): 2,
        ("de-AT", "de"): 1,
        ("de-AT", "de-DE"): 0,
        ("de", "den"): 0,
        ("den", "de"): 0,
        ("de", None): 0,
    }
    found = {}
    for wanted, tag in fits:
        language = parse_language(wanted)
        assert language is not None
        found[wanted, tag] = closeness(language, tag)
    assert found == fits
