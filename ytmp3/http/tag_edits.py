"""Changes texts, the number and the picture in the tags of a track without changing their length. Pure.

The converter leaves free space after the tags (`converter/audio/tags`), so other texts fit into the same bytes. The
sound stays in its place, and so do all positions in the file that a container contains. A changed track is therefore
its file with one part of it replaced.

Everything else in the tags is kept: chapters, loudness, the link. The sources are those of `pictures`. The file is one
that the converter has written; where it is not as expected, there is no edit.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ytmp3.core.crc32 import crc32_change
from ytmp3.core.ogg_checksum import checksum
from ytmp3.core.tag_edits import TagEdits
from ytmp3.http.pictures import HEADER_BYTES, ILST_PATH, MAX_TAG_BYTES, Read, box_at, id3_size, opus_tag_pages

_BOX_HEADER_BYTES: Final = 8
_CRC: Final = slice(22, 26)
"""The checksum in the header of an Ogg page."""


class Edit(Struct, frozen=True, kw_only=True):
    """Bytes that take the place of as many bytes of a file, from `start` on."""

    start: int
    content: bytes
    crc32_change: int = 0
    """By what the CRC-32 of the file changes (exclusive or)."""

    @property
    def end(self) -> int:
        """The position behind the replaced bytes."""
        return self.start + len(self.content)


def edit_of(read: Read, size: int, edits: TagEdits) -> Edit | None:
    """Return what to replace in a file of this size; None if the texts do not fit.

    Version 0.2 left no free space after the tags. In its tracks, longer texts replace the picture.
    """
    start = read(0, HEADER_BYTES)
    make = _opus if start.startswith(b"OggS") else _mp4 if start[4:8] == b"ftyp" else _id3
    edit = make(read, size, edits) or make(read, size, replace(edits, cover=False))
    if edit is None:
        return None
    old = read(edit.start, len(edit.content))
    return replace(edit, crc32_change=crc32_change(old, edit.content, size - edit.end))


def _id3(read: Read, _: int, edits: TagEdits) -> Edit | None:
    size = id3_size(read(0, HEADER_BYTES))
    if not 0 < size <= MAX_TAG_BYTES:
        return None
    body = read(HEADER_BYTES, size)
    texts = _given({b"TIT2": edits.title, b"TPE1": edits.artist, b"TALB": edits.album, b"TRCK": edits.position})
    frames = [_id3_text(name, text) for name, text in texts.items()]
    frames += [frame for name, frame in _id3_frames(body) if name not in texts and (edits.cover or name != b"APIC")]
    joined = b"".join(frames)
    return Edit(start=HEADER_BYTES, content=joined.ljust(size, b"\0")) if len(joined) <= len(body) == size else None


def _id3_frames(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + HEADER_BYTES <= len(body) and body[position]:
        end = position + HEADER_BYTES + int.from_bytes(body[position + 4 : position + 8])
        yield body[position : position + 4], body[position:end]
        position = end


def _id3_text(name: bytes, text: str) -> bytes:
    content = b"\x01\xff\xfe" + text.encode("utf-16-le")
    return name + len(content).to_bytes(4) + b"\0\0" + content


def _mp4(read: Read, size: int, edits: TagEdits) -> Edit | None:
    start, end = box_at(read, size, ILST_PATH)
    if not start or end - start > MAX_TAG_BYTES:
        return None
    free = read(end, _BOX_HEADER_BYTES)
    begin = start - _BOX_HEADER_BYTES
    room = end - begin + (int.from_bytes(free[:4]) if free[4:] == b"free" else 0)
    texts = _given({b"\xa9nam": edits.title, b"\xa9ART": edits.artist, b"\xa9alb": edits.album})
    values = {name: b"\0\0\0\1\0\0\0\0" + text.encode() for name, text in texts.items()}
    if edits.track_number is not None:
        numbers = edits.track_number.to_bytes(2) + (edits.track_total or 0).to_bytes(2)
        values[b"trkn"] = bytes(10) + numbers + bytes(2)
    items = [_box(name, _box(b"data", value)) for name, value in values.items()]
    kept = _boxes(read(start, end - start))
    items += [box for name, box in kept if name not in values and (edits.cover or name != b"covr")]
    tags = _box(b"ilst", b"".join(items))
    left = room - len(tags)
    if left < _BOX_HEADER_BYTES:
        # A box of its own needs eight bytes, so only an exact fit needs none.
        return Edit(start=begin, content=tags) if left == 0 else None
    return Edit(start=begin, content=tags + _box(b"free", bytes(left - _BOX_HEADER_BYTES)))


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + _BOX_HEADER_BYTES <= len(content):
        end = position + max(_BOX_HEADER_BYTES, int.from_bytes(content[position : position + 4]))
        yield content[position + 4 : position + 8], content[position:end]
        position = end


def _box(kind: bytes, body: bytes) -> bytes:
    return (len(body) + _BOX_HEADER_BYTES).to_bytes(4) + kind + body


def _opus(read: Read, _: int, edits: TagEdits) -> Edit | None:
    pages = opus_tag_pages(read)
    packet = b"".join(page.body for page in pages)
    texts = _given({b"TITLE": edits.title, b"ARTIST": edits.artist, b"ALBUM": edits.album})
    numbers = {b"TRACKNUMBER": edits.track_number, b"TRACKTOTAL": edits.track_total}
    texts |= {name: str(number) for name, number in numbers.items() if number is not None}
    comments = [name + b"=" + text.encode() for name, text in texts.items()]
    vendor_end = 12 + int.from_bytes(packet[8:12], "little")
    for comment in _comments(packet, vendor_end):
        name = comment.partition(b"=")[0].upper()
        if name not in texts and (edits.cover or name != b"METADATA_BLOCK_PICTURE"):
            comments.append(comment)
    counted = [len(comment).to_bytes(4, "little") + comment for comment in comments]
    changed = packet[:vendor_end] + len(comments).to_bytes(4, "little") + b"".join(counted)
    if not pages or len(changed) > len(packet):
        return None
    changed, parts, position = changed.ljust(len(packet), b"\0"), [], 0
    for page in pages:
        body = changed[position : position + len(page.body)]
        blank = page.header[: _CRC.start] + bytes(4) + page.header[_CRC.stop :] + body
        parts.append(blank[: _CRC.start] + checksum(blank).to_bytes(4, "little") + blank[_CRC.stop :])
        position += len(body)
    return Edit(start=pages[0].start, content=b"".join(parts))


def _comments(packet: bytes, position: int) -> Iterator[bytes]:
    count = int.from_bytes(packet[position : position + 4], "little")
    position += 4
    while count and position + 4 <= len(packet):
        end = position + 4 + int.from_bytes(packet[position : position + 4], "little")
        yield packet[position + 4 : end]
        count, position = count - 1, end


def _given(texts: Mapping[bytes, str | None]) -> dict[bytes, str]:
    return {name: text for name, text in texts.items() if text is not None}
