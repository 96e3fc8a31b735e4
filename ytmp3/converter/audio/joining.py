"""Joins the MP3 frames of overlapping segments to one stream, in the bit reservoir. Pure. Source: ISO 11172-3, 2.4.

The sound of a frame (its *main data*) may begin up to 511 bytes before its header, in space that earlier frames have
left: the bit reservoir. The field `main_data_begin` says how many bytes. These bytes are counted over the *bodies* of
the frames: what follows header and side information. So the frames of two encodings cannot simply follow each other.

The rule of a join, with the stream so far (A) and the next segment (B), which both have the same frames from the cut
on:

1. In A, `main_data_begin` of frame `j` says how many bytes before it belong to frame `j` and later frames of A. All of
   those are dropped, so these bytes are free.
2. If frame `j` of B needs at most as many bytes, they are copied from the bodies before frame `j` of B into the bodies
   before frame `j` of A. From frame `j` on, the stream continues with the frames of B, unchanged.
3. Otherwise the next frame is tried. Both encoders leave about the same space, so the first frame fits in most cases.
4. If none fits, the main data of the last frames of A is moved towards the beginning, over bytes that A does not use.
   (An encoder leaves some unused when the reservoir is full. Two encodings may differ by one byte for many seconds.)
5. With a variable bit rate, if none fits even so, the frame before gets the next larger bit rate: its body is longer
   then, and the additional bytes are free.

A frame is preferred where both encodings have chosen the same windows, because the transform of each granule overlaps
with the one before. Nothing is quantised again, and no frame but the one of rule 5 changes its size.

The idea of overlapping segments with a repaired bit reservoir is that of fre:ac's SuperFast encoders (2018).
"""

from collections.abc import Sequence
from typing import Final

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.mp3 import Frame, parse_header
from ytmp3.converter.audio.segments import FRAME_SAMPLES, UNUSABLE_FRAMES, Plan

HEADER_BYTES: Final = 4
MAX_BORROWED_BYTES: Final = 511
"""Most bytes of main data before the header of a frame: `main_data_begin` has nine bits."""

BACK_FRAMES: Final = 16
"""Frames before the cut that a join may change. `main_data_begin` is at most 511, and the smallest body, that of 32
kbit/s at 48 kHz in stereo, has 60 bytes. So a join changes at most nine frames before it."""

_MONO: Final = 3
_LARGEST_BITRATE_INDEX: Final = 14
_GRANULE_BITS: Final = 59
"""Size of the description of one channel of a granule in the side information."""
_SIDE_INFO_BYTES: Final = {False: 32, True: 17}
"""In stereo and in mono."""
_LENGTH_BITS: Final = 12
"""Size of the first field: the length of the main data, in bits."""
_WINDOW_OFFSET: Final = 33
"""Position of the window in it: a flag, and two bits for the kind."""


class NotJoinableError(Exception):
    """No frame of the overlap fits. The track must be encoded as a whole."""


class Joiner:
    """Makes one stream of the segments of a track. They are passed one after the other, in pieces of any size.

    The frames before the next cut are returned at once, so that they can be heard while the segment is still encoded.
    The rest, at most a few dozen frames, is kept until the next segment has been joined.
    """

    def __init__(self, plan: Plan, *, is_variable: bool) -> None:
        self._plan = plan
        self._is_variable = is_variable
        self._segment = plan.segment(0)
        self._sizes: dict[bytes, int] = {}
        """Sizes of frames, by the first three bytes of the header."""
        self._kind: tuple[int, int] | None = None
        """Sample rate, and bytes of side information, of all frames."""
        self._rest = b""
        """The beginning of a frame that is not complete yet."""
        self._frame = 0
        """The number of the next frame of the segment, in the whole track."""
        self._kept: list[bytes] = []
        """The last frames of the stream so far, from `_kept_from` on."""
        self._kept_from = 0
        self._head: list[bytes] = []
        """The first frames of a segment that has not been joined yet."""
        self._is_joined = True

    def add(self, piece: bytes) -> bytes:
        """Add bytes of the current segment. Returns the frames that are now final.

        Raises:
            BrokenError: the bytes are not frames of MPEG-1 layer III of one kind.
            NotJoinableError
        """
        content = self._rest + piece if self._rest else piece
        position = start = 0
        final: list[bytes] = []
        keep_from = self._plan.segment(self._segment.number + 1).cut_frame - BACK_FRAMES
        while (size := self._size_at(content, position)) is not None:
            end = position + size
            if not self._is_joined:
                final.append(self._join_with(content[position:end]))
                start = end
            elif self._frame >= keep_from:
                final.append(content[start:position])
                self._keep(content[position:end])
                start = end
            self._frame += 1
            position = end
        final.append(content[start:position])
        self._rest = content[position:]
        return b"".join(final)

    def next_segment(self) -> None:
        """Begin the next segment. All of the one before has been added.

        Raises:
            BrokenError: it ended within a frame, or too early.
        """
        self._check_end()
        self._segment = self._plan.segment(self._segment.number + 1)
        if self._kept_from + len(self._kept) <= self._last_choice:
            raise BrokenError("a segment has too few frames")
        self._frame = self._segment.first_frame
        self._head = []
        self._is_joined = False

    def finish(self) -> bytes:
        """Return the last frames of the stream: the current segment is the last one, and all of it has been added.

        Raises:
            BrokenError: it ended within a frame, or too early.
        """
        self._check_end()
        last, self._kept = self._kept, []
        return b"".join(last)

    @property
    def _last_choice(self) -> int:
        """The last frame at which the current segment may be joined with the one before."""
        return self._plan.segment(self._segment.number - 1).end_frame - UNUSABLE_FRAMES

    def _check_end(self) -> None:
        if self._rest or not self._is_joined:
            raise BrokenError("a segment ends within a frame" if self._rest else "a segment has too few frames")

    def _size_at(self, content: bytes, position: int) -> int | None:
        """Return the size of the frame at this position; None if it is not complete."""
        header = content[position : position + 3]
        size = self._sizes.get(header)
        if size is None:
            if len(content) < position + HEADER_BYTES:
                return None
            size = self._sizes[header] = self._facts_at(content, position).size_bytes
        return size if position + size <= len(content) else None

    def _facts_at(self, content: bytes, position: int) -> Frame:
        word = int.from_bytes(content[position : position + HEADER_BYTES])
        frame = parse_header(word)
        # The bit before the bit rate is set in a frame without a checksum, which the changes here would make wrong.
        if frame is None or frame.samples != FRAME_SAMPLES or not word >> 16 & 1:
            raise BrokenError("a segment has something else than frames of MPEG-1 without a checksum")
        kind = frame.sample_rate, frame.side_info_bytes
        if self._kind is None:
            self._kind = kind
        if kind != self._kind:
            raise BrokenError("the stream changes")
        return frame

    def _keep(self, frame: bytes) -> None:
        if not self._kept:
            self._kept_from = self._frame
        self._kept.append(frame)

    @property
    def _body_offset(self) -> int:
        assert self._kind is not None
        return HEADER_BYTES + self._kind[1]

    def _join_with(self, frame: bytes) -> bytes:
        """Add a frame of a segment that is not joined yet. Returns the frames that are final, if it has been joined."""
        self._head.append(frame)
        number = self._frame
        if number < self._segment.cut_frame:
            return b""
        free, needed = _borrowed(self._kept[number - self._kept_from]), _borrowed(frame)
        if needed <= free and self._windows(number) and number <= self._last_choice:
            before = [bytearray(each) for each in self._kept[: number - self._kept_from]]
            return self._joined_at(number, before, needed)
        if number < self._last_choice:
            return b""
        return self._joined_anywhere()

    def _windows(self, number: int) -> bool:
        """Return whether both encodings have the same windows in the first half of a frame."""
        return _windows(self._kept[number - self._kept_from]) == _windows(self._head_at(number))

    def _head_at(self, number: int) -> bytes:
        return self._head[number - self._segment.first_frame]

    def _joined_anywhere(self) -> bytes:
        """Join where the bytes between the main data of the stream are enough, or else make space for a frame."""
        choices = range(self._segment.cut_frame, self._last_choice + 1)
        # The sort is stable, so the first frames come first.
        for number in sorted(choices, key=lambda each: not self._windows(each)):
            before, free = _compacted(self._kept[: number - self._kept_from], self._body_offset)
            needed = _borrowed(self._head_at(number))
            if needed <= free:
                return self._joined_at(number, before, needed)
        for number in choices if self._is_variable else ():
            before = [bytearray(frame) for frame in self._kept[: number - self._kept_from]]
            needed, free = _borrowed(self._head_at(number)), _borrowed(self._kept[len(before)])
            wider = _widened(before[-1], needed - free)
            if wider is not None:
                return self._joined_at(number, [*before[:-1], wider], needed)
        raise NotJoinableError(f"no join at frame {self._segment.cut_frame}")

    def _joined_at(self, number: int, before: Sequence[bytearray], needed: int) -> bytes:
        """Join at this frame, which needs so many bytes of the frames before it. Returns all frames so far."""
        at = number - self._segment.first_frame
        _overwrite(before, _last_bytes(self._head[:at], needed, self._body_offset), self._body_offset)
        joined = b"".join([*before, *self._head[at:]])
        self._kept, self._head = [], []
        self._is_joined = True
        return joined


def _borrowed(frame: bytes) -> int:
    """Return `main_data_begin`: the first nine bits of the side information."""
    return frame[HEADER_BYTES] << 1 | frame[HEADER_BYTES + 1] >> 7


def _starts(frame: bytes) -> list[int]:
    """Return where the descriptions of the granules begin: those of all channels of the first one, then the second."""
    channels, first = (1, 18) if frame[3] >> 6 == _MONO else (2, 20)
    return [first + number * _GRANULE_BITS for number in range(2 * channels)]


def _bits(frame: bytes, position: int, count: int) -> int:
    """Return some bits of the side information."""
    size = _SIDE_INFO_BYTES[frame[3] >> 6 == _MONO]
    side_info = int.from_bytes(frame[HEADER_BYTES : HEADER_BYTES + size])
    return side_info >> 8 * size - position - count & (1 << count) - 1


def _sound_bytes(frame: bytes) -> int:
    """Return the size of the main data of a frame: the sum of the lengths of its granules, which are in bits."""
    return (sum(_bits(frame, start, _LENGTH_BITS) for start in _starts(frame)) + 7) // 8


def _windows(frame: bytes) -> list[int]:
    """Return the window of each channel in the first granule of a frame. 0: the normal one."""
    starts = _starts(frame)
    windows = (_bits(frame, start + _WINDOW_OFFSET, 3) for start in starts[: len(starts) // 2])
    # Without the flag, the two bits behind it mean something else.
    return [window if window & 4 else 0 for window in windows]


def _compacted(frames: Sequence[bytes], body_offset: int) -> tuple[list[bytearray], int]:
    """Move the main data of these frames towards the beginning, over bytes that no frame uses.

    Returns the frames, and how many bytes are free at their end. An encoder leaves bytes unused when the reservoir is
    full.
    """
    moved = [bytearray(frame) for frame in frames]
    bodies = b"".join(frame[body_offset:] for frame in frames)
    packed = bytearray(bodies)
    body_start = free_from = 0
    for number, frame in enumerate(moved):
        start, size = body_start - _borrowed(frame), _sound_bytes(frame)
        # The main data of the first frames is in bodies before these frames, at least a part of it.
        to = start if start < free_from or not number else max(free_from, body_start - MAX_BORROWED_BYTES)
        if to < start:
            packed[to : to + size] = bodies[start : start + size]
            begin = body_start - to
            frame[HEADER_BYTES] = begin >> 1
            frame[HEADER_BYTES + 1] = (begin & 1) << 7 | frame[HEADER_BYTES + 1] & 0x7F
        free_from = max(0, to + size)
        body_start += len(frame) - body_offset
    position = 0
    for frame in moved:
        size = len(frame) - body_offset
        frame[body_offset:] = packed[position : position + size]
        position += size
    return moved, min(MAX_BORROWED_BYTES, max(0, len(bodies) - free_from))


def _last_bytes(frames: Sequence[bytes], count: int, body_offset: int) -> bytes:
    """Return the last bytes of the bodies of these frames."""
    found: list[bytes] = []
    for frame in reversed(frames):
        if count <= 0:
            break
        body = frame[max(body_offset, len(frame) - count) :]
        found.append(body)
        count -= len(body)
    return b"".join(reversed(found))


def _overwrite(frames: Sequence[bytearray], content: bytes, body_offset: int) -> None:
    """Write the content to the end of the bodies of these frames."""
    end = len(content)
    for frame in reversed(frames):
        if not end:
            return
        size = min(end, len(frame) - body_offset)
        frame[len(frame) - size :] = content[end - size : end]
        end -= size


def _widened(frame: bytearray, more_bytes: int) -> bytearray | None:
    """Return the frame with at least so many bytes more, at the next bit rate that has them; None if there is none."""
    word = int.from_bytes(frame[:HEADER_BYTES])
    for index in range((word >> 12 & 15) + 1, _LARGEST_BITRATE_INDEX + 1):
        wider = word & ~(15 << 12) | index << 12
        facts = parse_header(wider)
        if facts is not None and facts.size_bytes >= len(frame) + more_bytes:
            return bytearray(wider.to_bytes(HEADER_BYTES) + frame[HEADER_BYTES:]).ljust(facts.size_bytes, b"\0")
    return None
