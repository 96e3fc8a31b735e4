"""What a tool says, in whatever pieces, lengths and bytes: lines are found, floods are bounded, junk is dropped."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.converter.audio.ffmpeg import demuxer_of, encoded_seconds, is_streamable
from ytmp3.converter.sandbox.pipes import TAIL_BYTES, Lines, Tail
from ytmp3.converter.youtube.events import decode_event


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.lists(st.integers(1, 30)))
def test_lines_are_the_same_in_whatever_pieces_they_come(lines: list[bytes], cuts: list[int]) -> None:
    found: list[bytes] = []
    reader = Lines(100, found.append)
    stream = b"".join(line + b"\n" for line in lines)
    for cut in cuts:
        reader.add(stream[:cut])
        stream = stream[cut:]
    reader.add(stream)
    assert found == lines


def test_a_line_of_ten_megabytes_is_dropped_and_the_next_is_read() -> None:
    found: list[bytes] = []
    reader = Lines(1000, found.append)
    for chunk in (b"first\n", *[b"x" * 65536] * 160, b"end of it\nsecond\n"):
        reader.add(chunk)
        assert len(reader._rest) <= 1000
    assert found == [b"first", b"second"]


@given(st.lists(st.binary(max_size=200), max_size=30))
def test_the_tail_is_the_end(chunks: list[bytes]) -> None:
    tail = Tail()
    for chunk in chunks:
        tail.add(chunk)
    assert tail.text() == b"".join(chunks).decode("utf-8", "replace")


def test_the_tail_of_a_flood_is_bounded() -> None:
    tail = Tail()
    for _ in range(1000):
        tail.add(b"\xff\x00\x1b" * 20_000)
        assert len(tail._kept) <= 2 * TAIL_BYTES
    tail.add(b"the end")
    assert tail.text().endswith("the end")


@given(st.binary())
def test_what_is_no_news_is_an_error_of_two_kinds_only(line: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_event(line)


@given(st.binary(max_size=100))
def test_any_head_and_any_progress_line_is_read(junk: bytes) -> None:
    encoded_seconds(junk)
    demuxer = demuxer_of(junk)
    assert is_streamable(demuxer or "mov", junk) in {True, False}


@pytest.mark.parametrize(
    ("head", "demuxer"),
    [
        (b"\x1aE\xdf\xa3\x01", "matroska"),
        (b"\0\0\0\x18ftypdash", "mov"),
        (b"OggS\0", "ogg"),
        (b"fLaC", "flac"),
        (b"ID3\x04", "mp3"),
        (b"\xff\xfb\x90\x64", "mp3"),
        (b"\xff\xf3\x90\x64", "mp3"),
        (b"\xff\xf1\x50\x80", "aac"),
        (b"G" + bytes(187) + b"G", "mpegts"),
        (b"RIFF\0\0\0\0WAVE", "wav"),
        (b"#EXTM3U\n#EXT-X-VERSION:3", None),
        (b"ffconcat version 1.0", None),
        (b"<!DOCTYPE html>", None),
        (b"PK\x03\x04", None),
        (b"\x89PNG\r\n", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_the_demuxer_is_chosen_by_the_first_bytes(head: bytes, demuxer: str | None) -> None:
    assert demuxer_of(head) == demuxer


def box(kind: bytes, size: int) -> bytes:
    return (size.to_bytes(4) + kind).ljust(size, b"\0")


@pytest.mark.parametrize(
    ("boxes", "streamable"),
    [
        (box(b"ftyp", 24) + box(b"moov", 500), True),
        (box(b"ftyp", 24) + box(b"free", 8) + box(b"moov", 500), True),
        (box(b"ftyp", 24) + box(b"sidx", 60), True),
        (box(b"ftyp", 24) + box(b"free", 8) + box(b"mdat", 500), False),
        (box(b"ftyp", 24) + (1).to_bytes(4) + b"mdat" + bytes(100), False),
        (box(b"ftyp", 24) + (0).to_bytes(4) + b"junk" + bytes(100), False),
    ],
)
def test_an_index_at_the_end_waits_for_the_whole_file(boxes: bytes, streamable: bool) -> None:
    assert is_streamable("mov", boxes) is streamable
    assert is_streamable("matroska", boxes)
