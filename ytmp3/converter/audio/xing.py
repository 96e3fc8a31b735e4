"""Makes the first frame of a joined MP3, as FFmpeg writes it for one encoding: the Xing or Info frame. Pure.

The frame has no sound. It holds the number of frames and bytes, a table for seeking, the encoder's delay and padding
(players that know them play exactly the samples of the source), and two checksums. There is no official specification;
the fields here are those that FFmpeg's MP3 muxer writes (libavformat/mp3enc.c).

FFmpeg writes an empty frame before the sound, and fills it in at the end. That of the first segment is the template, so
that its form, the name of the encoder and the delay are FFmpeg's own.
"""

from itertools import islice
from typing import Final

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.mp3 import parse_header
from ytmp3.converter.audio.segments import FRAME_SAMPLES

_HEADER_BYTES: Final = 4
_TAG_BYTES: Final = 156
"""Length of the tag, which begins behind the side information."""
_ALL_FIELDS: Final = 15
"""The flags for number of frames, number of bytes, table and quality."""
_FRAMES_OFFSET: Final = 8
_TABLE_OFFSET: Final = 16
_TABLE_ENTRIES: Final = 100
_DELAY_OFFSET: Final = 141
"""Twelve bits of delay and twelve bits of padding, in samples."""
_LENGTH_OFFSET: Final = 148
_TAG_CHECKED_BYTES: Final = 190
"""FFmpeg computes the tag's own checksum over this many bytes. In mono, they include the checksum. It counts as zeros,
as the bytes behind a shorter frame do."""

_MAX_POINTS: Final = 400
"""Most positions that are remembered for the table. If there are more, every second one is dropped."""

_PERIOD_BYTES: Final = 32767
"""Blocks of this many bytes may be added up (XOR) before the checksum is computed, because the powers of x repeat after
32,767 steps modulo its polynomial, x^16 + x^15 + x^2 + 1. So 50 MB take 30 ms, where a loop over all bytes in Python
would take seconds."""


def _checksum_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return table


_TABLE: Final = _checksum_table()


def checksum(content: bytes) -> int:
    """Return the checksum that LAME's tag uses: CRC-16/ARC."""
    value = 0
    for byte in content:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value


class _Checksum:
    """The checksum of a long stream."""

    def __init__(self) -> None:
        self._sum = 0
        self._rest = b""

    def add(self, content: bytes) -> None:
        content = self._rest + content
        whole = len(content) - len(content) % _PERIOD_BYTES
        for position in range(0, whole, _PERIOD_BYTES):
            self._sum ^= int.from_bytes(content[position : position + _PERIOD_BYTES])
        self._rest = content[whole:]

    @property
    def value(self) -> int:
        return checksum(self._sum.to_bytes(_PERIOD_BYTES) + self._rest)


class XingFrame:
    """Counts the frames of a stream, and makes its first frame at the end."""

    def __init__(self, template: bytes) -> None:
        """`template`: the first frame of FFmpeg's output, filled in or not.

        Raises:
            BrokenError: it is not such a frame.
        """
        facts = parse_header(int.from_bytes(template[:_HEADER_BYTES]))
        if facts is None or facts.size_bytes != len(template) or facts.samples != FRAME_SAMPLES:
            raise BrokenError("the first frame is not one of MPEG-1")
        self._tag = _HEADER_BYTES + facts.side_info_bytes
        fields = template[self._tag : self._tag + _FRAMES_OFFSET]
        if fields[:4] not in {b"Xing", b"Info"} or fields[4:] != _ALL_FIELDS.to_bytes(4):
            raise BrokenError("the first frame has no Xing or Info tag")
        if len(template) < self._tag + _TAG_BYTES:
            raise BrokenError("the first frame has no LAME tag")
        self._template = template
        self._size = len(template)
        self._frames = 0
        self._bitrates: set[int] = set()
        self._sizes: dict[bytes, int] = {}
        self._checksum = _Checksum()
        self._points: list[int] = []
        """The positions behind each `_step` frames."""
        self._step = 1

    @property
    def frames(self) -> int:
        """The number of frames with sound so far."""
        return self._frames

    def add(self, sound: bytes) -> None:
        """Count whole frames of the stream.

        Raises:
            BrokenError: there is another thing than frames.
        """
        position = 0
        while position < len(sound):
            header = sound[position : position + 3]
            size = self._sizes.get(header)
            if size is None:
                facts = parse_header(int.from_bytes(sound[position : position + _HEADER_BYTES]))
                if facts is None:
                    raise BrokenError("the joined stream is broken")
                size = self._sizes[header] = facts.size_bytes
                self._bitrates.add(facts.bitrate_kbps)
            position += size
            self._frames += 1
            if not self._frames % self._step:
                self._remember(self._size + position)
        if position != len(sound):
            raise BrokenError("the joined stream is broken")
        self._size += len(sound)
        self._checksum.add(sound)

    def _remember(self, position: int) -> None:
        self._points.append(position)
        if len(self._points) == _MAX_POINTS:
            # As FFmpeg does: of each pair, the second one stays.
            self._points = list(islice(self._points, 1, None, 2))
            self._step *= 2

    def frame(self, samples: int) -> bytes:
        """Return the frame for all that was added. `samples`: those of each channel of the source.

        Raises:
            BrokenError: so many samples do not fit the number of frames.
        """
        tag, frame = self._tag, bytearray(self._template)
        delay = int.from_bytes(frame[tag + _DELAY_OFFSET : tag + _DELAY_OFFSET + 3]) >> 12
        padding = self._frames * FRAME_SAMPLES - delay - samples
        if not 0 <= padding < 1 << 12 or not self._points:
            raise BrokenError("the number of frames does not fit the sound")
        frame[tag : tag + 4] = b"Xing" if len(self._bitrates) > 1 else b"Info"
        counts = self._frames.to_bytes(4) + (self._size & 0xFFFFFFFF).to_bytes(4)
        frame[tag + _FRAMES_OFFSET : tag + _TABLE_OFFSET] = counts
        frame[tag + _TABLE_OFFSET : tag + _TABLE_OFFSET + _TABLE_ENTRIES] = self._table()
        frame[tag + _DELAY_OFFSET : tag + _DELAY_OFFSET + 3] = (delay << 12 | padding).to_bytes(3)
        length = (self._size & 0xFFFFFFFF).to_bytes(4) + self._checksum.value.to_bytes(2)
        frame[tag + _LENGTH_OFFSET : tag + _LENGTH_OFFSET + 6] = length
        end = tag + _TAG_BYTES
        frame[end - 2 : end] = bytes(2)
        frame[end - 2 : end] = checksum(bytes(frame[:_TAG_CHECKED_BYTES].ljust(_TAG_CHECKED_BYTES, b"\0"))).to_bytes(2)
        return bytes(frame)

    def _table(self) -> bytes:
        """Return the table: which 256th of the file begins at each percent of the sound."""
        entries = (
            256 * self._points[entry * len(self._points) // _TABLE_ENTRIES] // self._size
            for entry in range(1, _TABLE_ENTRIES)
        )
        return bytes((0, *(min(entry, 255) for entry in entries)))
