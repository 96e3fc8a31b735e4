"""MP4 files, built here box by box: the tables must account for every byte, and the new file has its index first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ytmp3.converter.audio.broken import BrokenError, CutError
from ytmp3.converter.audio.mp4 import box_of, pieces_of_mp4, read_mp4
from ytmp3.converter.audio.mp4_tags import mp4_tags
from ytmp3.converter.audio.tags import Tags

RATE = 44_100
TAGS = Tags(title="Título", artist="Someone", link="https://www.youtube.com/watch?v=x", cover=b"\xff\xd8\xff" * 900)
FTYP = box_of(b"ftyp", b"M4A \0\0\2\0M4A isom")


def table(kind: bytes, *numbers: int, size: int = 4, columns: int = 1, front: bytes = b"") -> bytes:
    rows = len(numbers) // columns
    return box_of(kind, bytes(4) + front + rows.to_bytes(4) + b"".join(each.to_bytes(size) for each in numbers))


def esds(object_type: int = 0x40) -> bytes:
    decoder = b"\x04\x80\x80\x80\x0d" + bytes([object_type]) + bytes(12)
    return box_of(b"esds", bytes(4) + b"\x03\x80\x80\x80\x20" + bytes(3) + decoder)


def entry(kind: bytes = b"mp4a", more: bytes | None = None) -> bytes:
    return box_of(b"stsd", bytes(4) + (1).to_bytes(4) + box_of(kind, bytes(28) + (esds() if more is None else more)))


def movie(
    sizes: list[int],
    chunks: list[int],
    *,
    start: int,
    wide: bool = False,
    **changed: bytes,
) -> bytes:
    """An index. `chunks`: how many samples each one has. `changed`: other boxes in place of the right ones."""
    offsets, position, left = [], start, iter(sizes)
    for count in chunks:
        offsets.append(position)
        position += sum(next(left) for _ in range(count))
    duration = 1024 * len(sizes)
    boxes = {
        "stsd": entry(),
        "stts": table(b"stts", len(sizes), 1024, columns=2),
        "stsc": table(b"stsc", *(n for i, c in enumerate(chunks) for n in (i + 1, c, 1)), columns=3),
        "stsz": table(b"stsz", *sizes, front=bytes(4)),
        "stco": table(b"co64" if wide else b"stco", *offsets, size=8 if wide else 4),
    }
    tables = b"".join(changed.get(name, box) for name, box in boxes.items())
    times = b"\1" + bytes(19) if wide else bytes(12)
    clock = RATE.to_bytes(4) + duration.to_bytes(8 if wide else 4)
    handler = changed.get("hdlr", box_of(b"hdlr", bytes(8) + b"soun" + bytes(13)))
    media = changed.get("mdhd", box_of(b"mdhd", times + clock + bytes(4))) + handler
    media += box_of(b"minf", box_of(b"smhd", bytes(8)) + box_of(b"stbl", tables))
    track = box_of(b"trak", changed.get("edts", b"") + box_of(b"mdia", media))
    head = box_of(b"mvhd", times + clock + bytes(76) + (2).to_bytes(4))
    return box_of(b"moov", head + track + changed.get("more", b"") + box_of(b"udta", b"tags of another program"))


def sound_of(sizes: list[int]) -> bytes:
    return b"".join(bytes([0x21 + number % 2, number % 251] * size)[:size] for number, size in enumerate(sizes))


def whole(sizes: list[int], chunks: list[int], *, wide: bool = False, **changed: bytes) -> bytes:
    front = FTYP + box_of(b"free", b"")
    index = movie(sizes, chunks, start=len(front) + 8, wide=wide, **changed)
    return front + box_of(b"mdat", sound_of(sizes)) + index


def refused(content: bytes) -> bool:
    try:
        read_mp4(content)
    except (BrokenError, CutError):
        return True
    return False


@given(st.lists(st.lists(st.integers(1, 700), min_size=1, max_size=9), min_size=1, max_size=6), st.booleans())
def test_a_clean_file_is_read_and_its_sound_is_kept(parts: list[list[int]], wide: bool) -> None:
    sizes = [size for part in parts for size in part]
    content = whole(sizes, list(map(len, parts)), wide=wide)
    mp4 = read_mp4(content)
    assert mp4.duration_seconds == pytest.approx(1024 * len(sizes) / RATE)
    tagged = b"".join(pieces_of_mp4(mp4, content, mp4_tags(TAGS)))
    assert tagged.index(b"moov") < tagged.index(b"mdat")
    again = read_mp4(tagged)
    assert tagged[slice(*again.sound)] == sound_of(sizes)
    assert again.duration_seconds == mp4.duration_seconds
    assert TAGS.cover is not None
    assert TAGS.cover in tagged
    assert b"another program" not in tagged


def test_the_edits_say_what_is_played() -> None:
    def edits(*rows: tuple[int, int]) -> bytes:
        fields = (rate for row in rows for rate in (*row, 0x10000))
        return box_of(b"edts", table(b"elst", *fields, columns=3))

    def seconds(edts: bytes) -> float:
        return read_mp4(whole([50] * 100, [100], edts=edts)).duration_seconds

    assert seconds(edits((1024 * 99, 1024))) == pytest.approx(1024 * 99 / RATE)
    assert seconds(edits((1024 * 500, 1024))) == pytest.approx(1024 * 99 / RATE)
    assert seconds(edits((5000, 0xFFFFFFFF), (1024 * 90, 2048))) == pytest.approx(1024 * 90 / RATE)
    assert refused(whole([50] * 100, [100], edts=box_of(b"edts", box_of(b"elst", bytes(4) + (2).to_bytes(4)))))


@pytest.mark.parametrize(
    "changed",
    [
        {"stsd": entry(b"ac-3")},
        {"stsd": entry(more=b"")},
        {"stsd": entry(more=esds(0x6B))},
        {"stsd": entry(more=box_of(b"esds", bytes(4)))},
        {"stsd": box_of(b"stsd", entry()[8:] * 2)},
        {"stsz": table(b"stsz", 10, 20, 31, front=bytes(4))},
        {"stsz": table(b"stsz", 10, 20, front=bytes(4))},
        {"stsz": table(b"stsz", 10, 0, 50, front=bytes(4))},
        {"stsz": b""},
        {"stts": table(b"stts", 2, 1024, columns=2)},
        {"stts": table(b"stts", 3, 1000, columns=2)},
        {"stsc": table(b"stsc", 1, 4, 1, columns=3)},
        {"stsc": table(b"stsc", 2, 3, 1, columns=3)},
        {"stsc": table(b"stsc", columns=3)},
        {"stco": table(b"stco", 45)},
        {"stco": table(b"stco")},
        {"stco": b""},
        {"hdlr": box_of(b"hdlr", bytes(8) + b"vide" + bytes(13))},
        {"mdhd": box_of(b"mdhd", bytes(24))},
        {"mdhd": box_of(b"mdhd", b"")},
        {"more": box_of(b"trak", b"")},
    ],
)
def test_tables_that_do_not_fit_are_refused(changed: dict[str, bytes]) -> None:
    assert not refused(whole([10, 20, 30], [3]))
    assert refused(whole([10, 20, 30], [3], wide=False, **changed))


def test_a_sample_that_begins_with_the_end_of_a_frame_is_refused() -> None:
    content = whole([10, 20], [2])
    start, _ = read_mp4(content).sound
    assert refused(content[: start + 10] + b"\xe0" + content[start + 11 :])


def test_a_position_beyond_its_table_is_refused() -> None:
    content = whole([10, 20], [2])
    mp4 = replace(read_mp4(content), chunks=[2**32 - 1])
    with pytest.raises(BrokenError, match="too long"):
        list(pieces_of_mp4(mp4, content, mp4_tags(TAGS)))


@given(st.data())
def test_a_file_that_is_cut_anywhere_is_refused(data: st.DataObject) -> None:
    content = whole([10, 20, 30], [2, 1])
    assert refused(content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.binary(max_size=200), st.data())
def test_junk_is_refused_or_read_and_never_crashes(junk: bytes, data: st.DataObject) -> None:
    assert refused(junk)
    content = whole([10, 20, 30], [2, 1])
    at = data.draw(st.integers(0, len(content)))
    refused(content[:at] + junk + content[at + len(junk) :])


def test_a_box_that_ends_before_its_header_is_refused() -> None:
    assert refused((4).to_bytes(4) + b"ftyp" + bytes(8))
    assert refused((1).to_bytes(4) + b"ftyp" + (9).to_bytes(8))
    assert refused(FTYP + box_of(b"mdat", b"\x21"))
