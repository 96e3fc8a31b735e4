"""The layout of a ZIP archive of stored (uncompressed) files, computed before the files are read. Pure.

Audio does not compress, so the files are stored. The size and the CRC-32 of each file determine every byte outside
the files. So the length of the archive is known, its bytes are the same each time, and it can be sent from any offset.

    archive      = *( local header, file ), central directory, end
    `Layout`     = the list of these segments with their offsets

The form is that of PKWARE's APPNOTE.TXT 6.3.10: method 0 (4.4.5), names in UTF-8 (4.4.4, bit 11), and ZIP64 fields
(4.3.14, 4.5.3) only where a value does not fit, because some old programs cannot read them.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64: Final = struct.Struct("<4sIQI")
_UTF8_NAME: Final = 1 << 11
_VERSION: Final = 20
_VERSION64: Final = 45
"""The version of the specification that a reader needs: 4.5 for ZIP64, else 2.0 (APPNOTE 4.4.3)."""
_UNIX: Final = 3 << 8
_REGULAR_FILE: Final = 0o100644 << 16
"""The external attributes: a regular file that its owner may write and all may read, as Unix has them."""
_FULL16: Final = 0xFFFF
_FULL32: Final = 0xFFFFFFFF
"""The values that mean "see the ZIP64 field"."""
Moment = tuple[int, int, int, int, int, int]
"""A time in UTC: year, month, day, hour, minute, second."""
_EARLIEST: Final[Moment] = (1980, 1, 1, 0, 0, 0)
_LATEST: Final[Moment] = (2107, 12, 31, 23, 59, 58)
"""The range of times that a header can represent (APPNOTE 4.4.6)."""


class Entry(Struct, frozen=True, kw_only=True):
    """One file of the archive. The caller makes the names unique and safe."""

    name: str
    size_bytes: int
    crc32: int
    modified_at: Moment
    """The time of the file's last change. The header has a resolution of two seconds, rounded down."""


class Bytes(Struct, frozen=True):
    """A part of the archive that does not come from a file: headers and the directory."""

    content: bytes


class Slice(Struct, frozen=True, kw_only=True):
    """A part of the archive that is a range of a file."""

    entry: int
    """The index of the entry."""
    offset: int
    count: int


class Layout:
    """An archive of these entries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._sizes = [entry.size_bytes for entry in entries]
        self._segments: list[bytes | int] = []
        """The bytes of headers, or the index of the entry whose file belongs here."""
        self._starts: list[int] = []
        self.size_bytes = 0
        """The length of the archive."""
        directory = []
        for index, entry in enumerate(entries):
            directory.append(_central_header(entry, self.size_bytes))
            self._add(_local_header(entry))
            if entry.size_bytes:
                self._add(index)
        central = b"".join(directory)
        self._add(central + _end(len(entries), len(central), self.size_bytes))

    def headers(self) -> Iterator[bytes]:
        """Yield every part that does not come from a file, in order: for a hash of the archive."""
        yield from (segment for segment in self._segments if isinstance(segment, bytes))

    def parts(self, first: int, last: int) -> Iterator[Bytes | Slice]:
        """Yield the parts that make up the bytes `first` to `last` of the archive, both included."""
        place = bisect_right(self._starts, first) - 1
        while first <= last:
            segment, start = self._segments[place], self._starts[place]
            size = self._size(segment)
            begin, end = first - start, min(size, last + 1 - start)
            if isinstance(segment, bytes):
                yield Bytes(segment[begin:end])
            else:
                yield Slice(entry=segment, offset=begin, count=end - begin)
            first = start + end
            place += 1

    def _add(self, segment: bytes | int) -> None:
        self._starts.append(self.size_bytes)
        self._segments.append(segment)
        self.size_bytes += self._size(segment)

    def _size(self, segment: bytes | int) -> int:
        return len(segment) if isinstance(segment, bytes) else self._sizes[segment]


def _local_header(entry: Entry) -> bytes:
    name, size = entry.name.encode(), entry.size_bytes
    # In a local header, both sizes must be in the ZIP64 field if one of them is (APPNOTE 4.5.3).
    extra = _extra64(size, size) if size >= _FULL32 else b""
    fixed = _LOCAL.pack(
        b"PK\x03\x04",
        _VERSION64 if extra else _VERSION,
        _UTF8_NAME,
        0,
        *_dos_time(entry.modified_at),
        entry.crc32,
        min(size, _FULL32),
        min(size, _FULL32),
        len(name),
        len(extra),
    )
    return fixed + name + extra


def _central_header(entry: Entry, offset: int) -> bytes:
    name, size = entry.name.encode(), entry.size_bytes
    large = [*([size, size] if size >= _FULL32 else []), *([offset] if offset >= _FULL32 else [])]
    extra = _extra64(*large) if large else b""
    version = _VERSION64 if large else _VERSION
    fixed = _CENTRAL.pack(
        b"PK\x01\x02",
        _UNIX | version,
        version,
        _UTF8_NAME,
        0,
        *_dos_time(entry.modified_at),
        entry.crc32,
        min(size, _FULL32),
        min(size, _FULL32),
        len(name),
        len(extra),
        0,
        0,
        0,
        _REGULAR_FILE,
        min(offset, _FULL32),
    )
    return fixed + name + extra


def _end(count: int, size: int, offset: int) -> bytes:
    """Return the end of the archive, for a central directory of `count` entries and `size` bytes at `offset`."""
    end64 = b""
    if count >= _FULL16 or size >= _FULL32 or offset >= _FULL32:
        record = _END64.pack(
            b"PK\x06\x06", _END64.size - 12, _UNIX | _VERSION64, _VERSION64, 0, 0, count, count, size, offset
        )
        end64 = record + _LOCATOR64.pack(b"PK\x06\x07", 0, offset + size, 1)
    number = min(count, _FULL16)
    return end64 + _END.pack(b"PK\x05\x06", 0, 0, number, number, min(size, _FULL32), min(offset, _FULL32), 0)


def _extra64(*values: int) -> bytes:
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values)


def _dos_time(moment: Moment) -> tuple[int, int]:
    """Return time and date in the format of MS-DOS."""
    year, month, day, hour, minute, second = min(max(moment, _EARLIEST), _LATEST)
    return hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day
