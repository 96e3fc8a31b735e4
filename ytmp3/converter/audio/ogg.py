"""Verifies an Ogg Opus file page by page and packet by packet, and writes it again with new tags.

Sources: RFC 3533 (Ogg pages), RFC 7845 (Opus in Ogg), RFC 6716, section 3 (Opus packets).

The rule: every page must have the right checksum, sequence number and flags, and every packet a valid structure. The
durations of the packets give the measured duration; no timestamp is believed. The granule positions of the new file
are counted from the packets, so they are right also if the source's timestamps had a gap. Only the number of samples
that a player drops at the end comes from the old positions.
"""

import mmap
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from ytmp3.converter.audio.broken import BrokenError, CutError
from ytmp3.core.ogg_checksum import checksum

SAMPLE_RATE: Final = 48_000
"""Granule positions count samples at this rate, whatever the rate of the source was."""

_HEADER_BYTES: Final = 27
"""A page's header without its table of segments."""
_CAPTURE: Final = b"OggS\0"
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_NO_GRANULE: Final = 2**64 - 1
"""The granule position of a page on which no packet ends."""
_MAX_SEGMENTS: Final = 255
_SEGMENT_BYTES: Final = 255
_PRE_SKIP: Final = slice(10, 12)
_HEAD_BYTES: Final = 19
"""Length of an OpusHead packet of channel mapping family 0."""

_MAX_PACKET_SAMPLES: Final = 5760
"""120 ms, the longest duration of a packet."""
_MAX_FRAME_BYTES: Final = 1275
_FRAME_SAMPLES: Final = tuple(
    (480, 960, 1920, 2880)[config & 3]
    if config < 12
    else (480, 960)[config & 1]
    if config < 16
    else 120 << (config & 3)
    for config in range(32)
)
"""Samples of a frame, by the configuration in the upper five bits of a packet's first byte."""


class Page(Struct, frozen=True):
    """One page of sound: its table of segments, its body, and the samples of the packets that end on it."""

    segments: bytes
    start: int
    end: int
    """The body's bounds in the file."""
    samples: int
    is_continued: bool
    """Whether the first packet began on the page before."""


class OpusFile(Struct, frozen=True, kw_only=True):
    """A verified file."""

    head: bytes
    """The packet with the channels and the pre-skip."""
    pages: list[Page]
    trimmed_samples: int
    """Samples at the end that a player drops, because they are padding of the encoder."""
    duration_seconds: float


class _Raw(Struct, frozen=True):
    flags: int
    granule: int
    segments: bytes
    start: int
    end: int


def read_opus(content: bytes | mmap.mmap) -> OpusFile:
    """Verify a file with one Opus stream.

    Raises:
        BrokenError: it is not one clean stream.
        CutError: its last page is incomplete, or is not marked as the last one.
    """
    pages = _raw_pages(content)
    head_page = next(pages, None)
    if head_page is None:
        raise BrokenError("empty")
    head = content[head_page.start : head_page.end]
    _check_head(head, head_page)
    _skip_tags(content, pages)
    sound = list(pages)
    if not sound:
        raise BrokenError("no page with sound")
    if not sound[-1].flags & _LAST:
        raise CutError("the last page is missing")
    is_one_stream = _streams_of(head) == 1
    read = list(_sound_pages(content, sound, is_checked=is_one_stream))
    samples = sum(page.samples for page in read)
    trimmed = _trimmed_samples(sound, read)
    played = samples - trimmed - int.from_bytes(head[_PRE_SKIP], "little")
    if played <= 0:
        raise BrokenError("no sound")
    return OpusFile(head=head, pages=read, trimmed_samples=trimmed, duration_seconds=played / SAMPLE_RATE)


def pieces_of_opus(file: OpusFile, content: bytes | mmap.mmap, tags: bytes) -> Iterator[bytes]:
    """Yield the pages of the new file. `tags` is its OpusTags packet; `content` is what `file` was read from."""
    yield _page(file.head, flags=_FIRST, granule=0, number=0, segments=bytes([len(file.head)]))
    number = 1
    for body, segments, ends in _pages_of_packet(tags):
        granule = 0 if ends else _NO_GRANULE
        yield _page(body, flags=_CONTINUED if number > 1 else 0, granule=granule, number=number, segments=segments)
        number += 1
    position, last = 0, file.pages[-1]
    for page in file.pages:
        position += page.samples
        flags = (_CONTINUED if page.is_continued else 0) | (_LAST if page is last else 0)
        granule = position - (file.trimmed_samples if page is last else 0)
        if page is not last and not _ends_a_packet(page.segments):
            granule = _NO_GRANULE
        body = content[page.start : page.end]
        yield _page(body, flags=flags, granule=granule, number=number, segments=page.segments)
        number += 1


def _page(body: bytes, *, flags: int, granule: int, number: int, segments: bytes) -> bytes:
    # The serial number only has to differ from that of other streams in the file, and there are none.
    front = _CAPTURE + bytes([flags]) + granule.to_bytes(8, "little") + bytes(4) + number.to_bytes(4, "little")
    back = bytes([len(segments)]) + segments + body
    return front + checksum(front + bytes(4) + back).to_bytes(4, "little") + back


def _pages_of_packet(packet: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Split a packet. Yields the body and the segments of each page, and whether the packet ends on it."""
    lengths = bytes([_SEGMENT_BYTES]) * (len(packet) // _SEGMENT_BYTES) + bytes([len(packet) % _SEGMENT_BYTES])
    for first in range(0, len(lengths), _MAX_SEGMENTS):
        segments = lengths[first : first + _MAX_SEGMENTS]
        body = packet[first * _SEGMENT_BYTES : (first + len(segments)) * _SEGMENT_BYTES]
        yield body, segments, _ends_a_packet(segments)


def _ends_a_packet(segments: bytes) -> bool:
    return any(length < _SEGMENT_BYTES for length in segments)


def _raw_pages(content: bytes | mmap.mmap) -> Iterator[_Raw]:
    """Yield all pages, with checked checksums, numbers, flags and granule positions."""
    position, number, end, granule_before = 0, 0, len(content), 0
    serial = content[14:18]
    while position < end:
        header = content[position : position + _HEADER_BYTES]
        start = position + _HEADER_BYTES + (header[26] if len(header) == _HEADER_BYTES else 0)
        segments = content[position + _HEADER_BYTES : start]
        stop = start + sum(segments)
        if header[: len(_CAPTURE)] != _CAPTURE[: len(header)]:
            raise BrokenError(f"no page at byte {position}")
        if len(header) < _HEADER_BYTES or stop > end:
            raise CutError("the last page is cut")
        page = header[:22] + bytes(4) + content[position + 26 : stop]
        if checksum(page) != int.from_bytes(header[22:26], "little"):
            raise BrokenError(f"wrong checksum of the page at byte {position}")
        flags, granule = header[5], int.from_bytes(header[6:14], "little")
        if header[14:18] != serial or int.from_bytes(header[18:22], "little") != number:
            raise BrokenError(f"a page of another stream, or a missing one, at byte {position}")
        if bool(flags & _FIRST) is not (number == 0) or (flags & _LAST and stop != end):
            raise BrokenError(f"a stream begins or ends at byte {position}")
        if granule != _NO_GRANULE:
            if granule < granule_before:
                raise BrokenError(f"the time runs backwards at byte {position}")
            granule_before = granule
        yield _Raw(flags, granule, segments, start, stop)
        position, number = stop, number + 1


def _check_head(head: bytes, page: _Raw) -> None:
    is_packet = len(page.segments) == 1 and head[:8] == b"OpusHead" and len(head) >= _HEAD_BYTES
    if not is_packet or head[8] >> 4 or not head[9]:
        raise BrokenError("no head of an Opus stream")
    if len(head) != (_HEAD_BYTES if head[18] == 0 else _HEAD_BYTES + 2 + head[9]):
        raise BrokenError("a broken head of an Opus stream")


def _streams_of(head: bytes) -> int:
    """Return the number of Opus streams that each packet consists of: one, unless there are more than two channels."""
    return 1 if head[18] == 0 else head[_HEAD_BYTES]


def _skip_tags(content: bytes | mmap.mmap, pages: Iterator[_Raw]) -> None:
    """Read the pages of the packet with the tags, which must end with its page."""
    for count, page in enumerate(pages):
        if count == 0 and content[page.start : page.start + 8] != b"OpusTags":
            break
        if page.segments and page.segments[-1] < _SEGMENT_BYTES:
            return
    raise BrokenError("no tags")


def _sound_pages(content: bytes | mmap.mmap, pages: list[_Raw], *, is_checked: bool) -> Iterator[Page]:
    known: dict[int, int] = {}
    part = b""
    is_open = False
    for page in pages:
        if bool(page.flags & _CONTINUED) is not is_open:
            raise BrokenError(f"a packet is missing before byte {page.start}")
        was_open, samples, start, length = is_open, 0, page.start, 0
        for segment in page.segments:
            length += segment
            is_open = segment == _SEGMENT_BYTES
            if not is_open:
                packet = part + content[start : start + length] if part else content[start : start + length]
                samples += _packet_samples(packet, known, is_checked=is_checked)
                start, length, part = start + length, 0, b""
        part += content[start : start + length]
        yield Page(page.segments, page.start, page.end, samples, was_open)
    if is_open:
        raise CutError("the last packet is cut")


def _packet_samples(packet: bytes, known: dict[int, int], *, is_checked: bool) -> int:
    """Return the duration of a packet in samples. `known` has the durations of packets of one frame, by first byte."""
    if not packet:
        raise BrokenError("an empty packet")
    first = packet[0]
    if first in known and len(packet) - 1 <= _MAX_FRAME_BYTES:
        return known[first]
    frame, kind = _FRAME_SAMPLES[first >> 3], first & 3
    count = (1, 2, 2)[kind] if kind < 3 else packet[1] & 0x3F if len(packet) > 1 else 0
    if not 0 < count * frame <= _MAX_PACKET_SAMPLES or (is_checked and not _is_whole(packet, kind, count)):
        raise BrokenError("a packet that is not Opus")
    if kind == 0:
        known[first] = frame
    return count * frame


def _is_whole(packet: bytes, kind: int, count: int) -> bool:
    """Whether the lengths of the frames in a packet fit its size (RFC 6716, section 3.2)."""
    size = len(packet)
    match kind:
        case 0:
            return size - 1 <= _MAX_FRAME_BYTES
        case 1:
            return (size - 1) % 2 == 0 and (size - 1) // 2 <= _MAX_FRAME_BYTES
        case 2:
            length, position = _frame_length(packet, 1)
            return 0 <= size - position - length <= _MAX_FRAME_BYTES
    position, padding = 2, 0
    while packet[1] & 0x40:
        more = packet[position] if position < size else 0
        padding, position = padding + min(more, 254), position + 1
        if more < 255:
            break
    rest = size - padding
    if not packet[1] & 0x80:
        return rest >= position and (rest - position) % count == 0 and (rest - position) // count <= _MAX_FRAME_BYTES
    lengths = 0
    for _ in range(count - 1):
        length, position = _frame_length(packet, position)
        lengths += length
    return 0 <= rest - position - lengths <= _MAX_FRAME_BYTES


def _frame_length(packet: bytes, position: int) -> tuple[int, int]:
    """Read the length of a frame. Returns it and the position behind it, which is past the end of a cut packet."""
    first = packet[position] if position < len(packet) else 0
    if first < 252:
        return first, position + 1
    second = packet[position + 1] if position + 1 < len(packet) else 0
    return 4 * second + first, position + 2


def _trimmed_samples(raw: list[_Raw], read: list[Page]) -> int:
    """Return how many samples at the end the granule position of the last page leaves out."""
    before = next((page.granule for page in reversed(raw[:-1]) if page.granule != _NO_GRANULE), 0)
    last = raw[-1].granule
    missing = 0 if last == _NO_GRANULE else before + read[-1].samples - last
    return missing if 0 < missing < read[-1].samples else 0
