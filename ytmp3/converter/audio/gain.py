"""Changes the volume of an MP3 without encoding it again. Pure. Source: ISO 11172-3, section 2.4.1.7; 13818-3.

The side information of a frame has a field `global_gain` for each channel of each granule (a half of a frame, or the
whole frame at sample rates below 32 kHz). A decoder multiplies the samples by it: one step is a factor of 2 ** (1 / 4),
or 1.5 dB. Nothing else changes, so no sound is lost, frames keep their size, and the opposite change restores the file.
Programs such as MP3Gain do the same.

The checksum of the sound in LAME's tag is not computed again: players do not check it.
"""

import mmap
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.mp3 import parse_header, sound_of

PIECE_BYTES: Final = 2**18
"""Size of the pieces of the new file, in bytes."""

_HEADER_BYTES: Final = 4
_MAX_GAIN: Final = 255
_GAIN_OFFSET: Final = 21
"""Position of the field in the description of a granule, in bits: it follows 12 bits of length and 9 of big values."""
_MONO: Final = 3


class _Layout(Struct, frozen=True):
    """The layout of a frame, which follows from its header."""

    frame_bytes: int
    side_info_bytes: int
    gains: tuple[int, ...]
    """The position of each `global_gain`: the number of bits after it in the side information."""


def with_gain(content: bytes | mmap.mmap, steps: int) -> Iterator[bytes]:
    """Yield an MP3 with each `global_gain` changed by `steps`. The file has passed `mp3.walk`.

    A gain is limited to its range of 0 to 255; the gains that LAME writes are far from both ends. A granule without
    sound keeps its gain.

    Raises:
        BrokenError: a frame has a checksum, which would no longer be right. Our encoder writes none.
    """
    position, end = sound_of(content)
    piece = bytearray(content[:position])
    layouts: dict[bytes, _Layout] = {}
    while position < end:
        header = content[position : position + _HEADER_BYTES]
        layout = layouts.get(header)
        if layout is None:
            layout = layouts[header] = _layout_of(header)
        first = position + _HEADER_BYTES
        behind = first + layout.side_info_bytes
        side_info = _changed(int.from_bytes(content[first:behind]), layout.gains, steps)
        piece += header + side_info.to_bytes(layout.side_info_bytes)
        piece += content[behind : position + layout.frame_bytes]
        position += layout.frame_bytes
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + content[end:]


def _changed(side_info: int, gains: tuple[int, ...], steps: int) -> int:
    for shift in gains:
        gain = side_info >> shift & _MAX_GAIN
        # The length of the granule's sound, in the 12 bits before the big values.
        if side_info >> shift + 17 & 0xFFF:
            side_info += min(_MAX_GAIN, max(0, gain + steps)) - gain << shift
    return side_info


def _layout_of(header: bytes) -> _Layout:
    word = int.from_bytes(header)
    frame = parse_header(word)
    if frame is None or not word >> 16 & 1:
        raise BrokenError("a frame with a checksum")
    channels = 1 if word >> 6 & 3 == _MONO else 2
    if frame.samples == 1152:
        # Nine bits of `main_data_begin`, private bits, and four bits for each channel.
        granules, start, size = 2, 18 if channels == 1 else 20, 59
    else:
        granules, start, size = 1, 8 + channels, 63
    bits = 8 * frame.side_info_bytes
    starts = (start + size * number for number in range(granules * channels))
    return _Layout(
        frame_bytes=frame.size_bytes,
        side_info_bytes=frame.side_info_bytes,
        gains=tuple(bits - first - _GAIN_OFFSET - 8 for first in starts),
    )
