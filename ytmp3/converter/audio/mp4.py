"""Verifies an MP4 file with one AAC track by its sample tables, and writes it again with its index first and new tags.

Sources: ISO/IEC 14496-12 (boxes), 14496-14 and 14496-1 (the descriptor of the codec), 14496-3 (AAC).

The rule: the tables must account for every byte of the sound, exactly once and in order, and every frame must begin as
an AAC frame does. AAC has no checksums, so a wrong bit inside a frame is not noticed; only decoding would notice some
of them, for as much CPU time as a quarter of an MP3.

The new file has the index (`moov`) before the sound, so that a player can seek in it before all has arrived. ffmpeg
would have to read its output again for this, and it has no permission to.
"""

import itertools
import mmap
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from ytmp3.converter.audio.broken import BrokenError, CutError

PIECE_BYTES: Final = 2**20
"""How much of the sound is copied at once, in bytes."""

_AAC: Final = 0x40
"""The object type of AAC in a codec's descriptor."""
_END: Final = 7
"""The element of a frame that ends it. No frame begins with it, because it would be empty."""
_MAX_FRAME_BYTES: Final = 8191
"""Longest AAC frame: what the length field of a frame in a stream can hold."""
_MAX_MOOV_BYTES: Final = 64 * 2**20
"""Longest index: 4 bytes for each of 43 frames a second are 0.6 MB an hour."""
_NO_MEDIA: Final = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
"""The media time of an edit that plays nothing."""


class Box(Struct, frozen=True):
    """Where a box is in its file or in its parent: `start` with its header, `body` without it."""

    kind: bytes
    start: int
    body: int
    end: int


class Mp4File(Struct, frozen=True, kw_only=True):
    """A verified file."""

    head: bytes
    """The first box, which names the kind of file."""
    movie: bytes
    """What is inside the index, without tags."""
    offsets_at: int
    """Where in `movie` the positions of the chunks begin."""
    offset_bytes: int
    """4 or 8: the length of such a position."""
    chunks: list[int]
    """The positions of the chunks in the old file."""
    sound: tuple[int, int]
    """The bounds of the sound in the old file."""
    duration_seconds: float
    texts: bytes = b""
    """The samples of a text track, which come before the sound. The last four bytes of `movie` are their position."""


def read_mp4(content: bytes | mmap.mmap) -> Mp4File:
    """Verify a file with one AAC track.

    Raises:
        BrokenError: it is not one clean track.
        CutError: the file ends before its last box does.
    """
    boxes = list(_boxes(content, 0, len(content)))
    kinds = [box.kind for box in boxes if box.kind != b"free"]
    if kinds not in ([b"ftyp", b"mdat", b"moov"], [b"ftyp", b"moov", b"mdat"]):
        raise BrokenError("not the boxes of a finished file")
    index, sound = (next(box for box in boxes if box.kind == kind) for kind in (b"moov", b"mdat"))
    if index.end - index.body > _MAX_MOOV_BYTES:
        raise BrokenError("the index is too long")
    movie = b"".join(
        content[box.start : box.end] for box in _boxes(content, index.body, index.end) if box.kind != b"udta"
    )
    reader = MovieReader(movie)
    offsets = reader.find(b"trak", b"mdia", b"minf", b"stbl", b"co64") or reader.box(*_TABLES, b"stco")
    offset_bytes = 8 if offsets.kind == b"co64" else 4
    chunks = reader.numbers(offsets, 8, size=offset_bytes)
    _check_chunks(content, reader, chunks, (sound.body, sound.end))
    return Mp4File(
        head=content[boxes[0].start : boxes[0].end],
        movie=movie,
        offsets_at=offsets.body + 8,
        offset_bytes=offset_bytes,
        chunks=chunks,
        sound=(sound.body, sound.end),
        duration_seconds=_duration(reader),
    )


def pieces_of_mp4(file: Mp4File, content: bytes | mmap.mmap, tags: bytes) -> Iterator[bytes]:
    """Yield the new file. `tags` is its `udta` box; `content` is what `file` was read from.

    Raises:
        BrokenError: a position does not fit its table any more.
    """
    start, end = file.sound
    size = len(file.texts) + end - start + 8
    sound_header = size.to_bytes(4) + b"mdat" if size < 2**32 else (1).to_bytes(4) + b"mdat" + (size + 8).to_bytes(8)
    front = len(file.head) + 8 + len(file.movie) + len(tags) + len(sound_header) + len(file.texts)
    positions = [chunk - start + front for chunk in file.chunks]
    if positions[-1] >= 2 ** (8 * file.offset_bytes):
        raise BrokenError("too long for its table of positions")
    table = b"".join(position.to_bytes(file.offset_bytes) for position in positions)
    movie = file.movie[: file.offsets_at] + table + file.movie[file.offsets_at + len(table) :]
    if file.texts:
        movie = movie[:-4] + (front - len(file.texts)).to_bytes(4)
    yield file.head + box_of(b"moov", movie + tags) + sound_header + file.texts
    for position in range(start, end, PIECE_BYTES):
        yield content[position : min(position + PIECE_BYTES, end)]


def box_of(kind: bytes, body: bytes) -> bytes:
    """Return a box."""
    return (len(body) + 8).to_bytes(4) + kind + body


def _boxes(content: bytes | mmap.mmap, position: int, end: int) -> Iterator[Box]:
    while position < end:
        header = content[position : position + 16]
        size, body = int.from_bytes(header[:4]), position + 8
        if size == 1:
            size, body = int.from_bytes(header[8:]), position + 16
        if position + size > end or body > end:
            raise CutError(f"the box at byte {position} is cut")
        if size < body - position:
            raise BrokenError(f"no box at byte {position}")
        yield Box(header[4:8], position, body, position + size)
        position += size


_MEDIA: Final = (b"trak", b"mdia")
_TABLES: Final = (*_MEDIA, b"minf", b"stbl")


class MovieReader:
    """Reads the boxes inside an index, which has exactly one track."""

    def __init__(self, movie: bytes) -> None:
        self._movie = movie
        if [box.kind for box in _boxes(movie, 0, len(movie))].count(b"trak") != 1:
            raise BrokenError("not one track")
        kind = self.box(*_MEDIA, b"hdlr")
        if movie[kind.body + 8 : kind.body + 12] != b"soun":
            raise BrokenError("not a track of sound")
        self._check_codec()

    def find(self, *path: bytes) -> Box | None:
        """Return the box at this path, or None."""
        bounds, found = (0, len(self._movie)), None
        for kind in path:
            found = next((box for box in _boxes(self._movie, *bounds) if box.kind == kind), None)
            if found is None:
                return None
            bounds = found.body, found.end
        return found

    def box(self, *path: bytes) -> Box:
        """Return the box at this path."""
        found = self.find(*path)
        if found is None:
            raise BrokenError(f"no box {path[-1].decode('latin-1')}")
        return found

    def numbers(self, box: Box, offset: int, *, size: int = 4, columns: int = 1) -> list[int]:
        """Return all numbers of a table, whose number of rows is the four bytes before `offset` in the box."""
        start = box.body + offset
        count = int.from_bytes(self._movie[start - 4 : start])
        if start + count * size * columns != box.end:
            raise BrokenError(f"the table {box.kind.decode('latin-1')} has another length than it says")
        return [int.from_bytes(self._movie[at : at + size]) for at in range(start, box.end, size)]

    def pair(self, box: Box, *, narrow: int, wide: int) -> tuple[int, int]:
        """Return a time scale and the duration behind it: at `narrow` in a box of version 0, at `wide` in others."""
        is_wide = self._movie[box.body : box.body + 1] > b"\0"
        at = box.body + (wide if is_wide else narrow)
        scale = int.from_bytes(self._movie[at : at + 4])
        if not scale:
            raise BrokenError("no time scale")
        return scale, int.from_bytes(self._movie[at + 4 : at + (12 if is_wide else 8)])

    def edits(self) -> list[tuple[int, int]]:
        """Return the duration and the media time of each edit."""
        box = self.find(b"trak", b"edts", b"elst")
        if box is None:
            return []
        size = 8 if self._movie[box.body : box.body + 1] > b"\0" else 4
        row = 2 * size + 4
        count = int.from_bytes(self._movie[box.body + 4 : box.body + 8])
        if box.body + 8 + count * row != box.end:
            raise BrokenError("the table elst has another length than it says")
        starts = range(box.body + 8, box.end, row)
        fields = [self._movie[at : at + 2 * size] for at in starts]
        return [(int.from_bytes(each[:size]), int.from_bytes(each[size:])) for each in fields]

    def _check_codec(self) -> None:
        """Refuse any other codec than AAC."""
        box = self.box(*_TABLES, b"stsd")
        entries = list(_boxes(self._movie, box.body + 8, box.end))
        is_mp4a = len(entries) == 1 and entries[0].kind == b"mp4a"
        # The fields of a sound track have 28 bytes; boxes follow.
        inner = _boxes(self._movie, entries[0].body + 28, entries[0].end) if is_mp4a else iter(())
        descriptor = next((each for each in inner if each.kind == b"esds"), None)
        if descriptor is None or _object_type(self._movie[descriptor.body + 4 : descriptor.end]) != _AAC:
            raise BrokenError("not AAC")


def _object_type(descriptor: bytes) -> int | None:
    """Return the object type in an elementary stream's descriptor: that of the decoder is the first part of it."""
    for tag, skipped in ((3, 3), (4, 0)):
        if not descriptor or descriptor[0] != tag:
            return None
        # The length takes up to four bytes; all but the last one have the highest bit set.
        length = next((n for n in range(1, 5) if n < len(descriptor) and not descriptor[n] & 0x80), 4)
        descriptor = descriptor[1 + length + skipped :]
    return descriptor[0] if descriptor else None


def _check_chunks(content: bytes | mmap.mmap, reader: MovieReader, chunks: list[int], sound: tuple[int, int]) -> None:
    """Check that the chunks fill the sound exactly, and that each sample in them begins as an AAC frame."""
    sizes = _sizes(reader)
    counts = list(_samples_of_chunks(reader, len(chunks)))
    if sum(counts) != len(sizes):
        raise BrokenError("the chunks have another number of samples")
    samples = iter(sizes)
    position = sound[0]
    for chunk, count in zip(chunks, counts, strict=True):
        if chunk != position:
            raise BrokenError(f"a chunk at byte {chunk} instead of {position}")
        for size in itertools.islice(samples, count):
            first = content[position] if position < sound[1] else 0xFF
            if not 0 < size <= _MAX_FRAME_BYTES or first >> 5 == _END:
                raise BrokenError(f"no AAC frame at byte {position}")
            position += size
    if position != sound[1]:
        raise BrokenError(f"the tables end at byte {position}, the sound at byte {sound[1]}")


def _sizes(reader: MovieReader) -> list[int]:
    """Return the sizes of the samples, of which there is one at least."""
    box = reader.box(*_TABLES, b"stsz")
    sizes = reader.numbers(box, 12)
    counts = reader.numbers(reader.box(*_TABLES, b"stts"), 8, columns=2)[::2]
    if not sizes or sum(counts) != len(sizes):
        raise BrokenError("the tables have different numbers of samples")
    return sizes


def _samples_of_chunks(reader: MovieReader, chunk_count: int) -> Iterator[int]:
    """Yield the number of samples in each chunk. A row of the table holds from its chunk to that of the next row."""
    numbers = reader.numbers(reader.box(*_TABLES, b"stsc"), 8, columns=3)
    firsts = [*numbers[::3], chunk_count + 1]
    if firsts[0] != 1 or any(first >= after for first, after in itertools.pairwise(firsts)):
        raise BrokenError("the table stsc is not in order")
    for (first, after), count in zip(itertools.pairwise(firsts), numbers[1::3], strict=True):
        yield from itertools.repeat(count, after - first)


def _duration(reader: MovieReader) -> float:
    """Return how long the track plays, in seconds: its frames, without what its edits leave out."""
    scale, total = reader.pair(reader.box(*_MEDIA, b"mdhd"), narrow=12, wide=20)
    times = reader.numbers(reader.box(*_TABLES, b"stts"), 8, columns=2)
    if sum(count * each for count, each in zip(times[::2], times[1::2], strict=True)) != total:
        raise BrokenError("the frames are not as long as the track")
    movie_scale, _ = reader.pair(reader.box(b"mvhd"), narrow=12, wide=20)
    edits = [edit for edit in reader.edits() if edit[1] not in _NO_MEDIA]
    if not edits:
        return total / scale
    played = sum(duration for duration, _ in edits) / movie_scale
    return min(played, (total - min(begin for _, begin in edits)) / scale)
