"""Finds the picture in the tags of a track: ID3v2.3 of MP3, the tags of MP4 in the form of iTunes, and Ogg Opus. Pure.

Sources: id3.org, id3v2.3.0; ISO/IEC 14496-12 and mp4ra.org (boxes); RFC 3533 (pages), RFC 7845, section 5.2 (OpusTags)
and RFC 9639, section 8.8 (the picture in it).

It reads what the converter writes, at the beginning of the file and never the sound. Any other bytes, however damaged,
have no picture: nothing is raised, and the numbers of reads and of bytes are bounded.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Final

from msgspec import Struct

Read = Callable[[int, int], bytes]
"""Returns so many bytes (second argument) of a file from a position on; fewer at the end of the file."""

MAX_TAG_BYTES: Final = 1024 * 1024
"""Most bytes of a tag that are read. The converter writes at most 512 KiB of cover, a third more in base64 (Opus), and
a few kB of text."""
HEADER_BYTES: Final = 10
"""Length of the header of an ID3 tag, and of a frame's header."""
_JPEG: Final = b"\xff\xd8\xff"
"""The first bytes of every JPEG file."""
_MEDIA_TYPE: Final = b"image/jpeg"

_BOX_BYTES: Final = 16
"""Longest header of a box in MP4."""
_MAX_BOXES: Final = 64
"""Most boxes in one box that are looked at. The converter writes at most ten."""
Path = tuple[tuple[bytes, int], ...]
ILST_PATH: Final[Path] = ((b"moov", 0), (b"udta", 0), (b"meta", 4), (b"ilst", 0))
"""The boxes around the tags, from the outermost one, and the bytes in each before its content."""
_PICTURE_PATH: Final[Path] = (*ILST_PATH, (b"covr", 0), (b"data", 8))
"""The boxes around the picture."""

_PAGE_BYTES: Final = 27
"""Length of the header of an Ogg page without its table of segments."""
_MAX_SEGMENTS: Final = 255
_FULL_SEGMENT: Final = b"\xff"
"""A packet goes on after a segment of this length, also on the next page."""
_MAX_PAGES: Final = 64
"""Most pages that are read. A cover of 512 KiB takes eleven."""
_MAX_COMMENTS: Final = 64
"""Most comments that are read. The converter writes the picture as the seventh one at the latest."""
_PICTURE: Final = b"METADATA_BLOCK_PICTURE"


def picture_in(read: Read, size: int) -> bytes | None:
    """Return the JPEG in the tags of a file of this size, or None."""
    start = read(0, HEADER_BYTES)
    if start.startswith(b"OggS"):
        picture = _opus_picture(b"".join(page.body for page in opus_tag_pages(read)))
    elif start[4:8] == b"ftyp":
        picture = _mp4_picture(read, size)
    else:
        picture = _id3_picture(read(HEADER_BYTES, min(id3_size(start), MAX_TAG_BYTES)))
    return picture if picture.startswith(_JPEG) else None


def id3_size(header: bytes) -> int:
    """Return the number of bytes after the header of an ID3v2.3 tag; 0 if the file does not begin with one.

    Extended headers and unsynchronisation, which the flags would announce, are never used by the converter.
    """
    if len(header) < HEADER_BYTES or not header.startswith(b"ID3\x03\x00\x00"):
        return 0
    size = 0
    for byte in header[6:]:
        size = size << 7 | byte & 0x7F
    return size


def _id3_picture(frames: bytes) -> bytes:
    """Return the picture in the frames of an ID3v2.3 tag; empty if there is none."""
    position = 0
    while position + HEADER_BYTES <= len(frames) and frames[position]:
        name = frames[position : position + 4]
        start = position + HEADER_BYTES
        end = start + int.from_bytes(frames[position + 4 : position + 8])
        if name == b"APIC" and end <= len(frames):
            # Encoding (one byte), media type, zero, kind of picture (one byte), description, zero, picture. The
            # converter writes neither a description nor an encoding whose zero has two bytes.
            fields = frames[start + 1 : end].split(b"\0", 2)
            return fields[2] if len(fields) == 3 and fields[0] == _MEDIA_TYPE else b""
        position = end
    return b""


def _mp4_picture(read: Read, size: int) -> bytes:
    start, end = box_at(read, size, _PICTURE_PATH)
    return read(start, end - start) if 0 < end - start <= MAX_TAG_BYTES else b""


def box_at(read: Read, size: int, path: Path) -> tuple[int, int]:
    """Return the bounds of the content of a box of a file of this size; (0, 0) if there is none."""
    start, end = 0, size
    for kind, skipped in path:
        start, end = _box(read, kind, start, end)
        if end == 0:
            return 0, 0
        start += skipped
    return start, end


def _box(read: Read, kind: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the bounds of the content of the first box of this kind between two positions; (0, 0) if there is none."""
    for _ in range(_MAX_BOXES):
        if position + 8 > end:
            break
        header = read(position, min(_BOX_BYTES, end - position))
        size, body = int.from_bytes(header[:4]), 8
        if size == 1:
            size, body = int.from_bytes(header[8:]), _BOX_BYTES
        if size < body or position + size > end:
            break
        if header[4:8] == kind:
            return position + body, position + size
        position += size
    return 0, 0


class OpusPage(Struct, frozen=True, kw_only=True):
    """A page of an Ogg file."""

    start: int
    """Its position in the file."""
    header: bytes
    """Its header with its table of segments."""
    body: bytes


def opus_tag_pages(read: Read) -> list[OpusPage]:
    """Return the pages of the second packet of an Ogg file, which ends with its page; none if the file is damaged."""
    position, size, pages = 0, 0, list[OpusPage]()
    for number in range(_MAX_PAGES):
        header = read(position, _PAGE_BYTES + _MAX_SEGMENTS)
        if len(header) < _PAGE_BYTES or not header.startswith(b"OggS\0"):
            break
        header = header[: _PAGE_BYTES + header[26]]
        segments = header[_PAGE_BYTES:]
        if number > 0:  # the first page is the first packet
            body = read(position + len(header), sum(segments))
            pages.append(OpusPage(start=position, header=header, body=body))
            size += len(body)
            if segments[-1:] < _FULL_SEGMENT:
                return pages
        if size > MAX_TAG_BYTES:
            break
        position += len(header) + sum(segments)
    return []


def _opus_picture(packet: bytes) -> bytes:
    """Return the picture in an OpusTags packet: "OpusTags", the maker, the number of comments, and the comments."""
    if not packet.startswith(b"OpusTags"):
        return b""
    position = 12 + int.from_bytes(packet[8:12], "little")
    count = int.from_bytes(packet[position : position + 4], "little")
    position += 4
    for _ in range(min(count, _MAX_COMMENTS)):
        start = position + 4
        position = start + int.from_bytes(packet[position:start], "little")
        name, _, value = packet[start:position].partition(b"=")
        if name.upper() == _PICTURE and position <= len(packet):
            return _picture_block(value)
    return b""


def _picture_block(text: bytes) -> bytes:
    """Return the picture in a block of FLAC in base64: kind, media type, description, four sizes, picture."""
    try:
        block = base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
    type_end = 8 + int.from_bytes(block[4:8])
    picture_at = type_end + 4 + int.from_bytes(block[type_end : type_end + 4]) + 16 + 4
    size = int.from_bytes(block[picture_at - 4 : picture_at])
    picture = block[picture_at : picture_at + size]
    return picture if block[8:type_end] == _MEDIA_TYPE and len(picture) == size else b""
