"""The ID3v2.3 tag, read back by an independent reader."""

from hypothesis import given
from hypothesis import strategies as st

from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.tags import MAX_COVER_BYTES, Tags, tags_of
from ytmp3.core.job import Metadata

LINK = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300)


def read(tag: bytes) -> dict[str, bytes]:
    assert tag[:6] == b"ID3\x03\0\0"
    assert max(tag[6:10]) < 0x80
    size = 0
    for byte in tag[6:10]:
        size = size * 128 + byte
    assert size == len(tag) - 10
    frames: dict[str, bytes] = {}
    position = 10
    while position < len(tag):
        length = int.from_bytes(tag[position + 4 : position + 8])
        frames[tag[position : position + 4].decode()] = tag[position + 10 : position + 10 + length]
        position += 10 + length
    assert position == len(tag)
    return frames


@given(TEXT, st.none() | TEXT, st.none() | st.binary(min_size=1, max_size=70_000))
def test_every_field_of_a_tag_is_read_back(title: str, uploader: str | None, cover: bytes | None) -> None:
    frames = read(id3v2_tag(Tags(title=title, artist=uploader, link=LINK, cover=cover)))
    assert frames["TIT2"][1:].decode("utf-16") == title
    assert frames["WOAS"] == LINK.encode()
    assert ("TPE1" in frames) == (uploader is not None)
    if uploader is not None:
        assert frames["TPE1"][1:].decode("utf-16") == uploader
    assert ("APIC" in frames) == (cover is not None)
    if cover is not None:
        assert frames["APIC"] == b"\0image/jpeg\0\x03\0" + cover


def test_a_cover_that_is_too_large_is_left_out() -> None:
    metadata = Metadata(title="t", uploader=None, duration_seconds=None, thumbnail_url=None)
    assert tags_of(metadata, LINK, bytes(MAX_COVER_BYTES)).cover is not None
    assert tags_of(metadata, LINK, bytes(MAX_COVER_BYTES + 1)).cover is None
