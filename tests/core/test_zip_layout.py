"""The layout of archives: Python's zipfile reads them, and every range is the slice of the whole."""

import io
import random
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ytmp3.core.zip_layout import Bytes, Entry, Layout, Moment

CHANCE = random.Random(1)
FILES = {f"{number:02d} Tür ☃.mp3": CHANCE.randbytes(number * 37) for number in range(12)}
NOON = (2023, 11, 14, 22, 13, 21)


def entry(name: str, content: bytes, **changed: Any) -> Entry:
    fields: dict[str, Any] = {
        "name": name,
        "size_bytes": len(content),
        "crc32": zlib.crc32(content),
        "modified_at": NOON,
    }
    return Entry(**(fields | changed))


def bytes_of(layout: Layout, contents: Sequence[bytes], first: int = 0, last: int | None = None) -> bytes:
    parts = layout.parts(first, layout.size_bytes - 1 if last is None else last)
    return b"".join(
        part.content if isinstance(part, Bytes) else contents[part.entry][part.offset : part.offset + part.count]
        for part in parts
    )


ENTRIES = [entry(name, content) for name, content in FILES.items()]
LAYOUT = Layout(ENTRIES)
CONTENTS = list(FILES.values())
WHOLE = bytes_of(LAYOUT, CONTENTS)


def test_zipfile_reads_every_file() -> None:
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        info = archive.infolist()[3]
        assert info.date_time == (2023, 11, 14, 22, 13, 20)
        assert (info.compress_type, info.flag_bits, info.create_version) == (zipfile.ZIP_STORED, 1 << 11, 20)
        assert info.external_attr >> 16 == 0o100644


def test_the_length_is_exact_and_the_bytes_are_the_same_each_time() -> None:
    assert len(WHOLE) == LAYOUT.size_bytes
    assert bytes_of(Layout(ENTRIES), CONTENTS) == WHOLE


def test_the_headers_are_all_that_does_not_come_from_a_file() -> None:
    assert sum(map(len, LAYOUT.headers())) == LAYOUT.size_bytes - sum(map(len, CONTENTS))


@settings(max_examples=500)
@given(st.integers(0, LAYOUT.size_bytes - 1), st.integers(0, LAYOUT.size_bytes - 1))
def test_every_range_is_the_slice_of_the_whole(one: int, other: int) -> None:
    first, last = sorted((one, other))
    assert bytes_of(LAYOUT, CONTENTS, first, last) == WHOLE[first : last + 1]


def test_a_range_of_one_byte_at_every_border() -> None:
    for first in range(LAYOUT.size_bytes):
        assert bytes_of(LAYOUT, CONTENTS, first, first) == WHOLE[first : first + 1]


def test_an_archive_without_files_is_valid() -> None:
    empty = bytes_of(Layout([]), [])
    with zipfile.ZipFile(io.BytesIO(empty)) as archive:
        assert archive.namelist() == []


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ((1970, 1, 1, 0, 0, 0), (1980, 1, 1, 0, 0, 0)),
        ((2128, 6, 11, 8, 53, 20), (2107, 12, 31, 23, 59, 58)),
        ((2024, 2, 29, 23, 59, 59), (2024, 2, 29, 23, 59, 58)),
    ],
)
def test_times_that_a_header_cannot_have_become_the_nearest_one(moment: Moment, expected: Moment) -> None:
    whole = bytes_of(Layout([entry("a", b"x", modified_at=moment)]), [b"x"])
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.infolist()[0].date_time == expected


class Sparse(io.RawIOBase):
    """An archive whose files are zeros: too large to be in memory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._layout.size_bytes)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._layout.size_bytes if size < 0 else min(self._at + size, self._layout.size_bytes)
        parts = [
            part.content if isinstance(part, Bytes) else bytes(part.count)
            for part in self._layout.parts(self._at, end - 1)
        ]
        self._at = end
        return b"".join(parts)


def zeros(name: str, size_bytes: int) -> Entry:
    # A small file is read to its end, and then its CRC-32 is checked.
    crc32 = zlib.crc32(bytes(size_bytes)) if size_bytes < 10 else 0
    return Entry(name=name, size_bytes=size_bytes, crc32=crc32, modified_at=NOON)


@pytest.mark.parametrize(
    "sizes",
    [
        [2**32 + 5, 7],
        [2**31, 2**31, 2**31, 9],
        [2**32 - 1, 1],
        [2**32 - 2, 1],
        [3, 2**33, 4, 2**33],
    ],
)
def test_archives_and_files_above_4_gib_use_zip64(sizes: list[int]) -> None:
    layout = Layout([zeros(f"{number}.mp3", size) for number, size in enumerate(sizes)])
    with zipfile.ZipFile(Sparse(layout)) as archive:
        assert [info.file_size for info in archive.infolist()] == sizes
        assert [info.compress_size for info in archive.infolist()] == sizes
        for info in archive.infolist():
            with archive.open(info) as file:
                assert file.read(3) == bytes(min(3, info.file_size))


def test_no_zip64_field_is_written_where_none_is_needed() -> None:
    assert b"PK\x06\x06" not in WHOLE
    assert len(WHOLE) == sum(76 + 2 * len(name.encode()) + len(content) for name, content in FILES.items()) + 22


def test_more_entries_than_16_bits_can_count_use_zip64() -> None:
    layout = Layout([zeros(str(number), 0) for number in range(0xFFFF)])
    with zipfile.ZipFile(Sparse(layout)) as archive:
        assert len(archive.infolist()) == 0xFFFF
