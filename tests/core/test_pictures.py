"""The picture in the tags of a track: found in each format as the converter writes it; other bytes have none."""

import base64
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_mp4 import whole
from tests.core.test_ogg import page, stream
from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.mp4 import box_of, pieces_of_mp4, read_mp4
from ytmp3.converter.audio.mp4_tags import mp4_tags
from ytmp3.converter.audio.ogg import pieces_of_opus, read_opus
from ytmp3.converter.audio.ogg_tags import opus_tags
from ytmp3.converter.audio.tags import MAX_COVER_BYTES, Tags
from ytmp3.http.pictures import MAX_TAG_BYTES, picture_in

JPEG: Final = b"\xff\xd8\xff"
COVER: Final = JPEG + bytes(range(256)) * 4
LARGEST: Final = JPEG + b"\0" * (MAX_COVER_BYTES - 3)
FORMATS: Final = ("mp3", "m4a", "opus")
MP4: Final = whole([50, 60, 70], [1, 2])
OGG: Final = stream([[50, 60], [70]])
JUNK: Final = box_of(b"free", b"")


def written(extension: str, cover: bytes | None) -> bytes:
    """Return a track as the converter writes it."""
    tags = Tags(title="Título" * 20, artist="Someone", link="https://www.youtube.com/watch?v=x", cover=cover)
    if extension == "m4a":
        return b"".join(pieces_of_mp4(read_mp4(MP4), MP4, mp4_tags(tags)))
    if extension == "opus":
        return b"".join(pieces_of_opus(read_opus(OGG), OGG, opus_tags(tags)))
    return id3v2_tag(tags) + bytes(500)


def found(content: bytes) -> bytes | None:
    """Return the picture. Counts what is read."""
    reads: list[int] = []

    def read(start: int, size: int) -> bytes:
        assert start >= 0 <= size
        reads.append(size)
        return content[start : start + size]

    picture = picture_in(read, len(content))
    assert len(reads) < 400
    assert sum(reads) < 2 * MAX_TAG_BYTES
    assert picture is None or picture.startswith(JPEG)
    return picture


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("cover", [COVER, LARGEST, JPEG])
def test_each_format_gives_the_picture_of_the_converter_back(extension: str, cover: bytes) -> None:
    assert found(written(extension, cover)) == cover


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("cover", [None, b"GIF89a" * 99])
def test_a_track_without_a_jpeg_has_no_picture(extension: str, cover: bytes | None) -> None:
    assert found(written(extension, cover)) is None


@pytest.mark.parametrize("extension", FORMATS)
def test_a_file_that_is_cut_has_the_whole_picture_or_none(extension: str) -> None:
    content = written(extension, COVER)
    assert {found(content[:size]) for size in range(len(content))} == {None, COVER}


@given(st.data())
def test_a_changed_file_gives_a_picture_or_none(data: st.DataObject) -> None:
    content = bytearray(written(data.draw(st.sampled_from(FORMATS)), COVER))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found(bytes(content))


@given(
    st.sampled_from([b"", b"ID3\x03\x00\x00", b"OggS\0", b"\0\0\0\x08ftyp", b"\0\0\0\x08ftyp\0\0\0\1moov"]), st.binary()
)
def test_any_bytes_give_a_picture_or_none(start: bytes, rest: bytes) -> None:
    found(start + rest)


def mp4(data: bytes, *, front: bytes = b"") -> bytes:
    meta = box_of(b"meta", bytes(4) + box_of(b"ilst", front + box_of(b"covr", box_of(b"data", data))))
    return box_of(b"ftyp", b"") + box_of(b"moov", box_of(b"udta", meta))


def test_boxes_of_any_length_are_passed() -> None:
    data = bytes(8) + COVER
    assert found(mp4(data)) == COVER
    assert found(mp4(data, front=(1).to_bytes(4) + b"wide" + (20).to_bytes(8) + bytes(4))) == COVER
    assert found(mp4(data, front=JUNK * 63)) == COVER
    assert found(mp4(data, front=JUNK * 64)) is None
    assert found(mp4(data, front=(7).to_bytes(4) + b"thin")) is None
    assert found(mp4(data, front=(0).to_bytes(4) + b"open")) is None
    assert found(mp4(data, front=(1).to_bytes(4) + b"wide" + (2**64 - 1).to_bytes(8))) is None
    assert found(mp4(bytes(4))) is None
    assert found(mp4(data + bytes(MAX_TAG_BYTES))) is None


def opus(tags: bytes) -> bytes:
    return page(0, 0, b"OpusHead") + page(1, 0, tags)


def comments(*texts: bytes) -> bytes:
    counted = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return b"OpusTags" + bytes(4) + len(texts).to_bytes(4, "little") + counted


def block(picture: bytes, *, kind: bytes = b"image/jpeg", size: int | None = None) -> bytes:
    length = len(picture) if size is None else size
    fields = bytes(4) + len(kind).to_bytes(4) + kind + (4).to_bytes(4) + b"text" + bytes(16) + length.to_bytes(4)
    return b"metadata_block_picture=" + base64.b64encode(fields + picture)


def test_the_comments_of_opus_are_searched_for_a_whole_picture() -> None:
    assert found(opus(comments(b"A=b", b"none", block(COVER[:200])))) == COVER[:200]
    assert found(opus(comments(*[b"a=b"] * 64, block(JPEG)))) is None
    assert found(opus(comments(b"METADATA_BLOCK_PICTURE=!"))) is None
    assert found(opus(comments(b"METADATA_BLOCK_PICTURE="))) is None
    assert found(opus(comments(block(JPEG, kind=b"image/png")))) is None
    assert found(opus(comments(block(JPEG, size=2**32 - 1)))) is None
    assert found(opus(comments(block(JPEG))[:-4])) is None
    assert found(opus(b"OpusTags")) is None
    assert found(opus(b"OpusHead")) is None


def test_a_packet_without_an_end_is_not_read_for_ever() -> None:
    for size in (255, 255 * 254):
        assert found(page(0, 0, b"OpusHead") + page(1, 0, bytes(size), open_end=True) * 70) is None


@pytest.mark.parametrize("frame", [b"image/png\0\3\0" + JPEG, b"image/jpeg"])
def test_other_pictures_of_id3_are_no_covers(frame: bytes) -> None:
    frames = b"APIC" + (len(frame) + 1).to_bytes(4) + bytes(3) + frame
    assert found(b"ID3\x03\0\0\0\0\0" + bytes([len(frames)]) + frames) is None
