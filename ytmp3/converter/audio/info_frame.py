"""The first frame of a stream that a client hears while it is encoded: it has no sound and names the duration.

A player takes the duration of an MP3 from the Xing or Info tag in its first frame (there is no official specification;
LAME and FFmpeg write the same fields). FFmpeg writes this tag only at the end of the encoding, and an empty one until
then. So `split_head` drops FFmpeg's frame and makes another one, with the announced duration. Pure.
"""

import math
from typing import Final

from ytmp3.converter.audio.mp3 import Frame, parse_header

HEADER_BYTES: Final = 4
HEAD_BYTES: Final = 4096
"""Bytes at the beginning of a stream that `split_head` needs at most: two frames of at most 1,441 bytes."""
DECODER_DELAY_SAMPLES: Final = 529
"""Samples that every decoder of layer III adds. LAME's tag does not count them in the encoder's delay."""
_HAS_FRAMES: Final = 1
"""The flag for the only field that the tag has: the number of frames. The number of bytes is not known."""
_FIXED_BITRATES: Final = range(1, 15)
_ENCODER: Final = b"LAME\0\0\0\0\0"
"""The name of the encoder, in the first nine bytes of LAME's extension. FFmpeg trusts the delay only with this name."""
_LAME_BYTES: Final = 36
"""Length of LAME's extension. All fields but the name and the delay are zero: not known."""
_DELAY_OFFSET: Final = 21
_ENCODER_DELAY: Final = 576
"""The encoder delay of LAME, in samples. Players that know it skip this silence."""


def split_head(head: bytes, *, seconds: float | None, is_variable: bool) -> tuple[bytes, int] | None:
    """Return the frame to send first, and the position of the first frame with sound; None if `head` is too short.

    `head` is the beginning of the encoder's output, and `seconds` the announced duration. Without one, no frame is sent
    first. `is_variable`: whether the bit rate varies.

    Raises:
        ValueError: `head` is not an MP3.
    """
    frame = _frame_at(head, 0)
    if frame is None:
        return None
    position = 0
    tag = HEADER_BYTES + frame.side_info_bytes
    if head[tag : tag + 4] in {b"Xing", b"Info"}:
        position = frame.size_bytes
        frame = _frame_at(head, position)
    if frame is None:
        return None
    header = head[position : position + HEADER_BYTES]
    return b"" if seconds is None else _info_frame(header, frame, seconds, is_variable=is_variable), position


def _frame_at(head: bytes, position: int) -> Frame | None:
    """Return the facts of the frame at this position; None if `head` does not contain all of it.

    Raises:
        ValueError: the bytes are not a frame.
    """
    header = head[position : position + HEADER_BYTES]
    if len(header) < HEADER_BYTES:
        return None
    frame = parse_header(int.from_bytes(header))
    if frame is None:
        raise ValueError(f"no frame at byte {position}")
    return frame if len(head) >= position + frame.size_bytes else None


def _info_frame(header: bytes, frame: Frame, seconds: float, *, is_variable: bool) -> bytes:
    """Return a frame of the same version, sample rate and channels, at the lowest bit rate with space for the tag."""
    samples = seconds * frame.sample_rate + _ENCODER_DELAY + DECODER_DELAY_SAMPLES
    tag = (b"Xing" if is_variable else b"Info") + _HAS_FRAMES.to_bytes(4)
    tag += math.ceil(samples / frame.samples).to_bytes(4)
    extension = bytearray(_LAME_BYTES)
    extension[: len(_ENCODER)] = _ENCODER
    extension[_DELAY_OFFSET : _DELAY_OFFSET + 3] = (_ENCODER_DELAY << 12).to_bytes(3)
    tag += extension
    # No padding, and no checksum, which would stand before the side information.
    plain = int.from_bytes(header) & ~(1 << 9) | 1 << 16
    for index in _FIXED_BITRATES:
        word = plain & ~(0xF << 12) | index << 12
        facts = parse_header(word)
        if facts is not None and facts.size_bytes >= HEADER_BYTES + facts.side_info_bytes + len(tag):
            return (word.to_bytes(4) + bytes(facts.side_info_bytes) + tag).ljust(facts.size_bytes, b"\0")
    raise AssertionError("every version has a bit rate with space for the tag")
