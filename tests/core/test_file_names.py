"""File names of downloads: no title makes a header that is invalid, ambiguous or misleading."""

import random
import sys
import unicodedata
from email.message import Message

import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition
from hypothesis import given
from hypothesis import strategies as st

from tests.core.values import VIDEO_ID
from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3.core.file_names import MAX_NAME_BYTES, archive_name, content_disposition
from ytmp3.core.ids import VideoId

FORBIDDEN = set('"\\/:*?<>|%;')
RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in range(10)
}
BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_header(title: str) -> str:
    """Hold the header for `title` to every rule; return the name that a client will use."""
    header = content_disposition(title, VIDEO_ID, "mp3")
    assert header.isascii()
    assert header.isprintable()
    # Python's mail parser reads the fallback, aiohttp's (RFC 6266) the extended name: neither is our own.
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    fallback = message.get_param("filename", header="content-disposition")
    assert isinstance(fallback, str)
    kind, parameters = parse_content_disposition(header)
    assert kind == "attachment"
    assert set(parameters) == {"filename", "filename*"}
    name = content_disposition_filename(parameters)
    assert name is not None
    for text in (fallback, name):
        assert text.endswith(".mp3")
        assert len(text.encode()) <= MAX_NAME_BYTES
        assert text != ".mp3"
        assert not text.startswith((".", " ", "-"))
        assert text.split(".")[0].strip().upper() not in RESERVED
        assert text.removesuffix(".mp3") == text.removesuffix(".mp3").strip(" .")
        assert not FORBIDDEN & set(text)
        assert not BIDI & set(text)
        assert not [c for c in text if unicodedata.category(c)[0] == "C"]
    return name


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("A song", "A song.mp3"),
        ("Tür & Ångström – “live”", "Tür & Ångström – “live”.mp3"),
        ("日本語の歌", "日本語の歌.mp3"),
        ("😀 party", "😀 party.mp3"),
        ('AC/DC "T.N.T" 100%', "AC DC T.N.T 100.mp3"),
        ("a\r\nX-Evil: 1", "aX-Evil 1.mp3"),
        ("a\tb", "a b.mp3"),
        ("\x00\x7f\x85\ud800", f"{VIDEO_ID}.mp3"),
        ("\u202egnp.exe", "gnp.exe.mp3"),
        ("", f"{VIDEO_ID}.mp3"),
        ("   ", f"{VIDEO_ID}.mp3"),
        ("...", f"{VIDEO_ID}.mp3"),
        ("../../etc/passwd", "etc passwd.mp3"),
        (".hidden", "hidden.mp3"),
        ("<script>alert(1)</script>", "script alert(1) script.mp3"),
        ('","x":"', ", x.mp3"),
        ("ü" * 200, "ü" * 72 + ".mp3"),  # 150 bytes with ".opus", the longest extension
        ("a" * 145 + "ü", "a" * 145 + ".mp3"),
        ("e\u0301", "é.mp3"),
        ("-rf", "rf.mp3"),
        ("- . - MV", "MV.mp3"),
        ("CON", "_CON.mp3"),
        ("aux", "_aux.mp3"),
        ("Nul . a story", "_Nul . a story.mp3"),
        ("com1.", "_com1.mp3"),
        ("Connection", "Connection.mp3"),
    ],
)
def test_a_title_becomes_a_name(title: str, name: str) -> None:
    assert check_header(title) == name


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Tür & Ångström", "Tur & Angstrom.mp3"),
        ("日本語の歌", f"{VIDEO_ID}.mp3"),
        ("Кино — Группа крови (1990)", f"{VIDEO_ID}.mp3"),
        ("米津玄師 - Lemon / Kenshi Yonezu", "Lemon Kenshi Yonezu.mp3"),
        ("「夜に駆ける」- MV", f"{VIDEO_ID}.mp3"),
        ("!!!", f"{VIDEO_ID}.mp3"),
        ("AUX", "_AUX.mp3"),
    ],
)
def test_the_ascii_name_is_the_id_where_little_of_the_title_is_left(title: str, name: str) -> None:
    check_header(title)
    assert f'filename="{name}"' in content_disposition(title, VIDEO_ID, "mp3")


def test_a_name_from_an_id_that_begins_with_a_dash_does_not() -> None:
    assert 'filename="_-QQw4w9WgXc.mp3"' in content_disposition("歌", VideoId("-QQw4w9WgXc"), "mp3")


def test_a_fallback_that_grows_when_taken_apart_is_cut_too() -> None:
    # U+33AF is three bytes and becomes "rads2": five.
    check_header("\u33af" * 48)
    check_header("\ufdfa" * 48)


def test_hostile_titles_make_headers_that_read_back() -> None:
    rng = random.Random(6266)
    alphabets = (
        [chr(n) for n in range(0x100)],
        list("\"\\/;=%'*(){}[]<>:?|\r\n\t\x00\x1b ") + list("ab.é"),
        [*BIDI, "\u200b", "\ufeff", "\u2028", "\u0301", "\ud800", "\udfff", "\ue000", "a", ".", " "],
        [chr(n) for n in range(0x3300, 0x3400)] + ["ﬃ", "ﷺ", "½", "…", "Ⅷ"],
    )
    for _ in range(2_000 * FUZZ_FACTOR):
        characters = rng.choice(alphabets)
        length = rng.choice((1, 3, 10, 40, 200))
        title = "".join(
            rng.choice(characters) if rng.random() < 0.9 else chr(rng.randrange(sys.maxunicode + 1))
            for _ in range(length)
        )
        check_header(title)


@given(st.text())
def test_no_text_spoils_the_header(title: str) -> None:
    check_header(title)


def test_the_names_in_an_archive_are_in_order_and_fall_back_to_the_id() -> None:
    assert archive_name(7, 3, "a/b: c", VIDEO_ID, "mp3") == "007 a b c.mp3"
    assert archive_name(8, 3, "\u200b", VIDEO_ID, "mp3") == f"008 {VIDEO_ID}.mp3"
