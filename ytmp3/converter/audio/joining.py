"""Joins the MP3 frames of overlapping segments to one stream, in the bit reservoir. Pure. Source: ISO 11172-3, 2.4.

The sound of a frame (its *main data*) may begin up to 511 bytes before its header, in space that earlier frames have
left: the bit reservoir. The field `main_data_begin` says how many bytes. These bytes are counted over the *bodies* of
the frames: what follows header and side information. So the frames of two encodings cannot simply follow each other.

The rule of a join, with the stream so far (A) and the next segment (B), which both have the same frames from the cut
on:

1. In A, `main_data_begin` of frame `j` says how many bytes before it belong to frame `j` and later frames of A. Frame
   `j` and later frames of A are dropped, so these bytes are free.
2. If frame `j` of B needs at most as many bytes, they are copied from the bodies before frame `j` of B into the bodies
   before frame `j` of A. From frame `j` on, the stream continues with the frames of B, unchanged.
3. Otherwise the next frame is tried. Both encoders leave about the same space, so the first frame fits in most cases.
4. If none fits, the main data of the last frames of A is moved towards the beginning, over bytes that A does not use.
   An encoder leaves some unused when the reservoir is full.
5. With a variable bit rate, if none fits even so, the frame before frame `j` gets the smallest larger bit rate that
   makes enough room: its body is longer then, and the additional bytes are free.
6. Otherwise, the main data of frame `j` of B and of later frames is moved towards the end, up to where B does not use
   some bytes. Two encodings may differ by a single byte for many seconds, for example in speech.

A frame is preferred where both encodings have chosen the same windows, because the transform of each granule overlaps
with the one before. Nothing is quantised again, and no frame but the one of rule 5 changes its size.

The idea of overlapping segments with a repaired bit reservoir is that of fre:ac's SuperFast encoders (2018).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.mp3 import Frame, parse_header
from ytmp3.converter.audio.reservoir import (
    HEADER_BYTES,
    borrowed,
    compacted,
    followed,
    unused_between,
    widened,
    windows,
)
from ytmp3.converter.audio.segments import FRAME_SAMPLES, UNUSABLE_FRAMES, Plan

BACK_FRAMES: Final = 16
"""Frames before the cut that a join may change. `main_data_begin` is at most 511, and the smallest body, that of 32
kbit/s at 48 kHz in stereo, has 60 bytes. So a join changes at most nine frames before it."""


class NotJoinableError(Exception):
    """No frame of the overlap fits. The track must be encoded as a whole."""


class _Delay(Struct):
    """A join that moves the main data of the later segment towards the end, as far as it has been checked."""

    number: int
    """The frame of the join."""
    delay_bytes: int
    """By how much the main data of this frame is moved."""
    left_bytes: int
    """The delay, in bytes, that remains at the last checked frame: unused bytes reduce it. 0: later frames stay."""
    next_index: int
    """Index in `Joiner._head` of the next frame to check."""


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
        self._delays: Iterator[_Delay] | None = None
        """The joins to try that move main data towards the end."""
        self._delay: _Delay | None = None
        """The one of them that no frame so far has made impossible."""

    def add(self, piece: bytes) -> bytes:
        """Add bytes of the current segment. Returns the frames that are now final.

        Raises:
            BrokenError: the bytes are not frames of MPEG-1 layer III of one kind.
            NotJoinableError
        """
        content = self._rest + piece if self._rest else piece
        position = start = 0
        final: list[bytes] = []
        keep_from = self._keep_from
        while (size := self._size_at(content, position)) is not None:
            end = position + size
            if not self._is_joined:
                final.append(self._add_to_head(content[position:end]))
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

    def next_segment(self) -> bytes:
        """Begin the next segment. All of the one before has been added. Returns the frames that are now final.

        Raises:
            BrokenError: it ended within a frame, or too early.
        """
        final = self._end()
        self._segment = self._plan.segment(self._segment.number + 1)
        if self._kept_from + len(self._kept) <= self._last_choice:
            raise BrokenError("a segment has too few frames")
        self._frame = self._segment.first_frame
        self._head = []
        self._is_joined = False
        return final

    def finish(self) -> bytes:
        """Return the last frames of the stream: the current segment is the last one, and all of it has been added.

        Raises:
            BrokenError: it ended within a frame, or too early.
        """
        final = self._end()
        last, self._kept = self._kept, []
        return b"".join([final, *last])

    @property
    def _last_choice(self) -> int:
        """The last frame at which the current segment may be joined with the one before."""
        return self._plan.segment(self._segment.number - 1).end_frame - UNUSABLE_FRAMES

    @property
    def _keep_from(self) -> int:
        """The first frame that the next join may change."""
        return self._plan.segment(self._segment.number + 1).cut_frame - BACK_FRAMES

    def _end(self) -> bytes:
        """End the current segment. Returns the frames that are now final."""
        if self._rest:
            raise BrokenError("a segment ends within a frame")
        if self._is_joined:
            return b""
        if self._delay is None:
            raise BrokenError("a segment has too few frames")
        # The segment ended before unused bytes have absorbed the delay. The join is valid, and the next one uses the
        # changed `main_data_begin`.
        return self._join_at(self._delay.number, self._compacted(self._delay.number)[0], self._delay.delay_bytes)

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
        # The protection bit is 1 in a frame without a CRC. A join changes side information, so a CRC would be wrong.
        if frame is None or frame.samples != FRAME_SAMPLES or not word >> 16 & 1:
            raise BrokenError("a segment contains bytes that are not MPEG-1 layer III frames without CRC")
        kind = frame.sample_rate, frame.side_info_bytes
        if self._kind is None:
            self._kind = kind
        if kind != self._kind:
            raise BrokenError("the sample rate or the channel mode changes")
        return frame

    def _keep(self, frame: bytes) -> None:
        if not self._kept:
            self._kept_from = self._frame
        self._kept.append(frame)

    @property
    def _body_offset(self) -> int:
        assert self._kind is not None
        return HEADER_BYTES + self._kind[1]

    def _add_to_head(self, frame: bytes) -> bytes:
        """Add a frame of a segment that is not joined yet. Returns the frames that are final, if it has been joined."""
        self._head.append(frame)
        number = self._frame
        if number < self._segment.cut_frame:
            return b""
        if number <= self._last_choice and self._missing(number) <= 0 and self._has_same_windows(number):
            return self._join_at(number, self._kept[: number - self._kept_from])
        if number < self._last_choice:
            return b""
        return self._join_by_fallback() if number == self._last_choice else self._join_delayed()

    def _missing(self, number: int) -> int:
        """Return how many bytes more the later segment needs before a frame than the earlier one leaves."""
        return borrowed(self._head_at(number)) - borrowed(self._kept[number - self._kept_from])

    def _has_same_windows(self, number: int) -> bool:
        """Return whether both encodings have the same windows in the first half of a frame."""
        return windows(self._kept[number - self._kept_from]) == windows(self._head_at(number))

    def _head_at(self, number: int) -> bytes:
        return self._head[number - self._segment.first_frame]

    def _compacted(self, number: int) -> tuple[list[bytes], int]:
        """Return the kept frames before this one, and how many bytes at their end can be made free."""
        return compacted(self._kept[: number - self._kept_from], self._body_offset)

    def _join_by_fallback(self) -> bytes:
        """Join although no frame fits unchanged with equal windows, by the rules 4, 5 and 6, in this order.

        Returns nothing if more frames are needed.
        """
        # The sort is stable, so among equals, the first frames come first.
        choices = sorted(
            range(self._segment.cut_frame, self._last_choice + 1), key=lambda each: not self._has_same_windows(each)
        )
        delays = []
        for number in choices:
            before, free = self._compacted(number)
            missing = borrowed(self._head_at(number)) - free
            if missing <= 0:
                return self._join_at(number, before)
            at = number - self._segment.first_frame
            delays.append(_Delay(number=number, delay_bytes=missing, left_bytes=missing, next_index=at))
        for number in choices if self._is_variable else ():
            before = self._kept[: number - self._kept_from]
            wider = widened(before[-1], self._missing(number))
            if wider is not None:
                return self._join_at(number, [*before[:-1], wider])
        self._delays = iter(
            sorted(delays, key=lambda each: (not self._has_same_windows(each.number), each.delay_bytes))
        )
        self._delay = next(self._delays)
        return self._join_delayed()

    def _join_delayed(self) -> bytes:
        """Join with delayed main data, once unused bytes have absorbed the delay.

        Returns nothing while more frames must be checked.

        Raises:
            NotJoinableError: no frame can be joined in this way.
        """
        assert self._delays is not None
        while self._delay is not None:
            if self._is_possible(self._delay):
                if self._delay.left_bytes:
                    return b""
                number, delay_bytes = self._delay.number, self._delay.delay_bytes
                return self._join_at(number, self._compacted(number)[0], delay_bytes)
            self._delay = next(self._delays, None)
        raise NotJoinableError(f"no join at frame {self._segment.cut_frame}")

    def _is_possible(self, delay: _Delay) -> bool:
        """Check further frames of the segment. Each must borrow as many bytes as its main data is moved."""
        first = delay.number - self._segment.first_frame
        while delay.left_bytes and delay.next_index < len(self._head):
            frame = self._head[delay.next_index]
            if delay.next_index > first:
                unused = unused_between(self._head[delay.next_index - 1], frame, self._body_offset)
                delay.left_bytes = max(0, delay.left_bytes - max(0, unused))
            if borrowed(frame) < delay.left_bytes:
                return False
            delay.next_index += 1
        return True

    def _join_at(self, number: int, before: Sequence[bytes], delay_bytes: int = 0) -> bytes:
        """Join at this frame, behind these frames. Returns the frames that the next join cannot change."""
        at = number - self._segment.first_frame
        frames = followed(before, self._head, at, delay_bytes, self._body_offset)
        final = max(0, self._keep_from - self._kept_from)
        self._kept_from, self._kept = self._kept_from + final, [bytes(frame) for frame in frames[final:]]
        self._head = []
        self._delay = self._delays = None
        self._is_joined = True
        return b"".join(frames[:final])
