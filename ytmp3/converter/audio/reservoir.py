"""The fields of MP3 frames that place their sound in the bit reservoir, and changes of the place. Pure.

Source: ISO 11172-3, section 2.4.1.7. A frame is a header, side information, and a *body*. Its sound, the *main data*,
begins `main_data_begin` bytes before its body, counted over the bodies of the frames before, and may end before its own
body ends. Bytes between the main data of two frames are not used.
"""

from collections.abc import Sequence
from typing import Final

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.mp3 import parse_header

HEADER_BYTES: Final = 4
MAX_BORROWED_BYTES: Final = 511
"""Most bytes of main data before the header of a frame: `main_data_begin` has nine bits."""

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


def borrowed(frame: bytes) -> int:
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


def sound_bytes(frame: bytes) -> int:
    """Return the size of the main data of a frame: the sum of the lengths of its granules, which are in bits."""
    return (sum(_bits(frame, start, _LENGTH_BITS) for start in _starts(frame)) + 7) // 8


def windows(frame: bytes) -> list[int]:
    """Return the window of each channel in the first granule of a frame. 0: the normal one."""
    starts = _starts(frame)
    found = (_bits(frame, start + _WINDOW_OFFSET, 3) for start in starts[: len(starts) // 2])
    # Without the flag, the two bits behind it mean something else.
    return [window if window & 4 else 0 for window in found]


def compacted(frames: Sequence[bytes], body_offset: int) -> tuple[list[bytes], int]:
    """Move the main data of these frames towards the beginning, over bytes that no frame uses.

    Returns the frames, and how many bytes are free at their end. An encoder leaves bytes unused when the reservoir is
    full.
    """
    moved = [bytearray(frame) for frame in frames]
    bodies = b"".join(frame[body_offset:] for frame in frames)
    packed = bytearray(bodies)
    body_start = free_from = 0
    for number, frame in enumerate(frames):
        start, size = body_start - borrowed(frame), sound_bytes(frame)
        # The main data of the first frames is in bodies before these frames, at least a part of it.
        to = start if start < free_from or not number else max(free_from, body_start - MAX_BORROWED_BYTES)
        if to < start:
            packed[to : to + size] = bodies[start : start + size]
            _set_borrowed(moved[number], body_start - to)
        free_from = max(0, to + size)
        body_start += len(frame) - body_offset
    _set_bodies(moved, packed, body_offset)
    return [bytes(frame) for frame in moved], min(MAX_BORROWED_BYTES, max(0, len(bodies) - free_from))


def unused_between(frame: bytes, following: bytes, body_offset: int) -> int:
    """Return how many bytes between the main data of two frames are not used."""
    return len(frame) - body_offset + borrowed(frame) - sound_bytes(frame) - borrowed(following)


def followed(
    before: Sequence[bytes], frames: Sequence[bytes], first: int, delay_bytes: int, body_offset: int
) -> list[bytearray]:
    """Let the frames from the number `first` on follow other frames.

    Their main data takes the place of what is at the end of the bodies before. It is moved towards the end by
    `delay_bytes`, and less once there are bytes that no frame uses. Each frame borrows at least as many bytes.

    Raises:
        BrokenError: the main data does not fit.
    """
    result = [bytearray(frame) for frame in (*before, *frames[first:])]
    source = b"".join(frame[body_offset:] for frame in frames)
    body_start = sum(len(frame) - body_offset for frame in frames[:first])
    # Where the first of these bodies begins, among all bodies of the result.
    shift = sum(len(frame) - body_offset for frame in before) - body_start
    bodies = bytearray(b"".join(frame[body_offset:] for frame in result))
    end = 0
    for number, frame in enumerate(frames[first:], first):
        if number > first:
            delay_bytes = max(0, delay_bytes - max(0, unused_between(frames[number - 1], frame, body_offset)))
        size, start = sound_bytes(frame), body_start - borrowed(frame)
        to = start + shift + delay_bytes
        if not 0 <= to <= len(bodies) - size:
            raise BrokenError("the main data of a frame does not fit")
        bodies[to : to + size] = source[start : start + size]
        _set_borrowed(result[len(before) + number - first], borrowed(frame) - delay_bytes)
        body_start += len(frame) - body_offset
        end = to + size
    # The main data of frames that are not there yet may begin behind that of the last one.
    bodies[end:] = source[end - shift :]
    _set_bodies(result, bodies, body_offset)
    return result


def _set_borrowed(frame: bytearray, count: int) -> None:
    frame[HEADER_BYTES] = count >> 1
    frame[HEADER_BYTES + 1] = (count & 1) << 7 | frame[HEADER_BYTES + 1] & 0x7F


def _set_bodies(frames: Sequence[bytearray], bodies: bytes | bytearray, body_offset: int) -> None:
    position = 0
    for frame in frames:
        size = len(frame) - body_offset
        frame[body_offset:] = bodies[position : position + size]
        position += size


def widened(frame: bytes, more_bytes: int) -> bytes | None:
    """Return the frame with at least so many bytes more, at the next bit rate that has them; None if there is none."""
    word = int.from_bytes(frame[:HEADER_BYTES])
    for index in range((word >> 12 & 15) + 1, _LARGEST_BITRATE_INDEX + 1):
        wider = word & ~(15 << 12) | index << 12
        facts = parse_header(wider)
        if facts is not None and facts.size_bytes >= len(frame) + more_bytes:
            return (wider.to_bytes(HEADER_BYTES) + frame[HEADER_BYTES:]).ljust(facts.size_bytes, b"\0")
    return None
