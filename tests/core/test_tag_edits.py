"""Other tags in the place of a track's own: read back by an independent reader, in a file of the same length."""

import io
import zlib
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from mutagen.id3 import ID3
from mutagen.mp4 import MP4
from mutagen.oggopus import OggOpus

from tests.core.test_mp4 import sound_of, whole
from tests.core.test_mp4_chapters import frames_of, tracks_of
from tests.core.test_ogg import NO_TAGS, stream
from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.mp4 import box_of, pieces_of_mp4, read_mp4
from ytmp3.converter.audio.mp4_chapters import with_chapters
from ytmp3.converter.audio.mp4_tags import mp4_tags
from ytmp3.converter.audio.ogg import pieces_of_opus, read_opus
from ytmp3.converter.audio.ogg_tags import opus_tags
from ytmp3.converter.audio.tags import PADDING_BYTES, Tags
from ytmp3.core.job import Chapter
from ytmp3.core.tag_edits import MAX_TEXT_CHARACTERS, TagEdits, clean_text
from ytmp3.http.pictures import picture_in
from ytmp3.http.tag_edits import Edit, edit_of

COVER: Final = b"\xff\xd8\xff" + bytes(range(256)) * 400
TAGS: Final = Tags(
    title="Título",
    artist="Someone",
    album="Songs",
    year=1999,
    link="https://www.youtube.com/watch?v=x",
    cover=COVER,
    chapters=(Chapter(start_seconds=0, title="one"), Chapter(start_seconds=1, title="two")),
    duration_seconds=2,
)
M4A, OPUS = whole([50, 60, 70], [1, 2]), stream([[50, 60], [70]])
FORMATS: Final = ("mp3", "m4a", "opus")
SOUNDS: Final = {"mp3": b"\xff\xfbsound" * 20, "m4a": sound_of([50, 60, 70]), "opus": OPUS[OPUS.index(NO_TAGS) + 16 :]}
LONGEST: Final = "\U0001f3b6" * MAX_TEXT_CHARACTERS
EVERYTHING: Final = TagEdits(title=LONGEST, artist=LONGEST[::-1], album=LONGEST, cover=True)


def written(extension: str, tags: Tags = TAGS, *, has_room: bool = True) -> bytes:
    """Return a track as the converter writes it; without room behind the tags, as version 0.2 did."""
    if extension == "m4a":
        box = mp4_tags(tags)
        if not has_room:
            free = box_of(b"free", bytes(PADDING_BYTES))
            meta = box[16 : 16 + int.from_bytes(box[8:12]) - 8].removesuffix(free)
            box = box_of(b"udta", box_of(b"meta", meta))
        return b"".join(pieces_of_mp4(with_chapters(read_mp4(M4A), tags), M4A, box))
    if extension == "opus":
        packet = opus_tags(tags) if has_room else opus_tags(tags).removesuffix(bytes(PADDING_BYTES))
        return b"".join(pieces_of_opus(read_opus(OPUS), OPUS, packet))
    tag = id3v2_tag(tags)
    if not has_room:
        size = len(tag) - 10 - PADDING_BYTES
        tag = tag[:6] + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + tag[10:-PADDING_BYTES]
    return tag + SOUNDS["mp3"]


def edit(content: bytes, edits: TagEdits) -> Edit | None:
    return edit_of(lambda start, size: content[start : start + size], len(content), edits)


def edited(content: bytes, edits: TagEdits) -> bytes:
    found = edit(content, edits)
    assert found is not None
    return content[: found.start] + found.content + content[found.end :]


def texts_of(extension: str, content: bytes) -> list[Any]:
    """Return title, artist, album, year, and the numbers of pictures and of chapters, as mutagen reads them."""
    file = io.BytesIO(content)
    tags: Any
    if extension == "mp3":
        tags = ID3(fileobj=file, translate=False)  # type: ignore[no-untyped-call]
        texts = [tags[name].text[0] if name in tags else None for name in ("TIT2", "TPE1", "TALB", "TYER")]
        return [*texts, len(tags.getall("APIC")), len(tags.getall("CHAP"))]
    if extension == "m4a":
        track: Any = MP4(fileobj=file)  # type: ignore[no-untyped-call]
        texts = [track.tags.get(name, [None])[0] for name in ("\xa9nam", "\xa9ART", "\xa9alb", "\xa9day")]
        return [*texts, len(track.tags.get("covr", ())), len(track.chapters or ())]
    tags = OggOpus(fileobj=file).tags  # type: ignore[no-untyped-call]
    texts = [tags.get(name, [None])[0] for name in ("title", "artist", "album", "date")]
    return [*texts, len(tags.get("metadata_block_picture", ())), sum("NAME" in name.upper() for name, _ in tags)]


def check_the_sound(extension: str, before: bytes, after: bytes) -> None:
    assert len(after) == len(before)
    assert after != before
    if extension == "m4a":
        assert tracks_of(after) == tracks_of(before)
        assert tracks_of(after)[0] == frames_of([50, 60, 70])
    elif extension == "opus":
        old, new = read_opus(before), read_opus(after)
        assert (old.pages, old.duration_seconds) == (new.pages, new.duration_seconds)
        assert [before[page.start : page.end] for page in old.pages] == [
            after[page.start : page.end] for page in new.pages
        ]
    else:
        assert after.endswith(SOUNDS["mp3"])


@pytest.mark.parametrize("extension", FORMATS)
def test_new_texts_are_read_back_and_everything_else_is_kept(extension: str) -> None:
    before = written(extension)
    assert texts_of(extension, before) == ["Título", "Someone", "Songs", "1999", 1, 2]
    for edits, expected in (
        (TagEdits(title="Mine"), ["Mine", "Someone", "Songs", "1999", 1, 2]),
        (TagEdits(artist="Me", album="Ours"), ["Título", "Me", "Ours", "1999", 1, 2]),
        (TagEdits(cover=False), ["Título", "Someone", "Songs", "1999", 0, 2]),
        (EVERYTHING, [LONGEST, LONGEST[::-1], LONGEST, "1999", 1, 2]),
    ):
        after = edited(before, edits)
        check_the_sound(extension, before, after)
        assert texts_of(extension, after) == expected
        assert picture_in(lambda start, size: after[start : start + size], len(after)) == (  # noqa: B023
            COVER if edits.cover else None
        )
        assert edited(after, edits) == after
    bare = replace(TAGS, artist=None, album=None, year=None, cover=None, chapters=())
    assert texts_of(extension, edited(written(extension, bare), EVERYTHING)) == [*3 * [LONGEST], None, 0, 0]


def position_in(extension: str, content: bytes) -> str | None:
    """Return the number of the track and the total, as mutagen reads them."""
    file = io.BytesIO(content)
    if extension == "mp3":
        frame: Any = ID3(fileobj=file, translate=False).get("TRCK")  # type: ignore[no-untyped-call]
        return None if frame is None else str(frame.text[0])
    tags: Any = (MP4 if extension == "m4a" else OggOpus)(fileobj=file).tags
    if extension == "m4a":
        pair = tags.get("trkn", [None])[0]
    else:
        pair = [tags.get(name, [0])[0] for name in ("tracknumber", "tracktotal")] if "tracknumber" in tags else None
    return None if pair is None else "/".join(str(each) for each in pair if int(each))


@pytest.mark.parametrize("extension", FORMATS)
def test_track_numbers_are_read_back_beside_the_longest_texts(extension: str) -> None:
    bare = replace(TAGS, artist=None, album=None, year=None, chapters=())
    for before in (written(extension), written(extension, bare)):
        assert position_in(extension, before) is None
        for number, total, expected in ((1, None, "1"), (3, 12, "3/12"), (9999, 9999, "9999/9999")):
            edits = replace(EVERYTHING, track_number=number, track_total=total)
            after = edited(before, edits)
            check_the_sound(extension, before, after)
            assert position_in(extension, after) == expected
            assert texts_of(extension, after)[:3] == [LONGEST, LONGEST[::-1], LONGEST]
            assert texts_of(extension, after)[4] == 1, "there is room for everything"
            assert edited(after, edits) == after
            found = edit(before, edits)
            assert found is not None
            assert zlib.crc32(after) == zlib.crc32(before) ^ found.crc32_change


@pytest.mark.parametrize("extension", FORMATS)
def test_a_track_without_room_loses_its_cover_or_cannot_be_changed(extension: str) -> None:
    before = written(extension, has_room=False)
    assert texts_of(extension, before) == ["Título", "Someone", "Songs", "1999", 1, 0 if extension == "m4a" else 2]
    after = edited(before, TagEdits(title="A long title" * 9))
    check_the_sound(extension, before, after)
    assert texts_of(extension, after)[0::4] == ["A long title" * 9, 0]
    assert edit(written(extension, replace(TAGS, cover=None), has_room=False), EVERYTHING) is None


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"OggS\0", b"\0\0\0\x14ftyp", b"ID3\x03\0\0", "mp3", "m4a", "opus"])
)
def test_no_damage_makes_an_edit_that_changes_the_length(junk: bytes, start: bytes | str) -> None:
    content = start + junk if isinstance(start, bytes) else written(start, replace(TAGS, cover=None))[:300] + junk
    found = edit(content, EVERYTHING)
    assert found is None or len(edited(content, EVERYTHING)) >= len(content)


def test_a_file_without_tags_that_can_be_read_has_no_edit() -> None:
    too_long = b"ID3\x03\0\0" + bytes((0, 127, 127, 127)) + bytes(2**21)
    for content in (SOUNDS["mp3"], b"ID3\x03\0\0" + bytes(4) + SOUNDS["mp3"], too_long, M4A, OPUS[:40]):
        for edits in (TagEdits(cover=False), TagEdits(title="Mine")):
            assert edit(content, edits) is None


def test_boxes_that_fill_the_room_exactly_or_nearly() -> None:
    before = written("m4a", replace(TAGS, cover=None))
    used = len("Título".encode())
    for length, fits in ((PADDING_BYTES + 8, True), (PADDING_BYTES + 7, False), (PADDING_BYTES, True)):
        assert (edit(before, TagEdits(title="x" * (used + length))) is not None) is fits


def test_texts_are_cleaned_or_refused() -> None:
    assert clean_text("  Cafe\u0301 \u200d\U0001f3b6 ") == "Café \u200d\U0001f3b6"
    for text in ("", "  ", "x" * (MAX_TEXT_CHARACTERS + 1), "a\nb", "a\0", "a\u2028b", "\u202eb", "a\ufeff"):
        with pytest.raises(ValueError, match=r"empty|control"):
            clean_text(text)


def test_a_track_has_a_position_only_with_a_number() -> None:
    assert TagEdits().position is None
    assert TagEdits(track_number=3).position == "3"
    assert TagEdits(track_number=3, track_total=12).position == "3/12"
