"""One MP3 made of the segments that several encoders write: the joined frames, behind a Xing or Info frame. Pure."""

from typing import Final

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.joining import Joiner
from ytmp3.converter.audio.mp3 import parse_header
from ytmp3.converter.audio.segments import FRAME_SAMPLES, Plan
from ytmp3.converter.audio.xing import XingFrame

_HEADER_BYTES: Final = 4


class JoinedTrack:
    """Takes the segments one after the other, in pieces of any size, and returns the bytes of the track.

    The output of the first segment begins with FFmpeg's Xing frame, the others have none. The track begins with this
    frame too. It is only complete at the end: then it is replaced by another one of the same size.
    """

    def __init__(self, plan: Plan, *, is_variable: bool) -> None:
        """`is_variable`: whether the bit rate varies."""
        self._joiner = Joiner(plan, is_variable=is_variable)
        self._xing: XingFrame | None = None
        self._beginning = b""

    @property
    def samples(self) -> int:
        """The number of samples of each channel in the frames so far."""
        return 0 if self._xing is None else self._xing.frames * FRAME_SAMPLES

    def add(self, piece: bytes) -> bytes:
        """Add bytes of the current segment. Returns the bytes that the track grows by.

        Raises:
            BrokenError: it is not an MP3 as the encoder writes it.
            NotJoinableError: no frame fits; see `joining`.
        """
        if self._xing is not None:
            return self._counted(self._xing, self._joiner.add(piece))
        self._beginning += piece
        size = _first_frame_bytes(self._beginning)
        if size is None or len(self._beginning) < size:
            return b""
        first, rest = self._beginning[:size], self._beginning[size:]
        self._beginning = b""
        self._xing = XingFrame(first)
        return first + self._counted(self._xing, self._joiner.add(rest))

    def next_segment(self) -> bytes:
        """Begin the next segment: all of the one before has been added. Returns the bytes that the track grows by.

        Raises:
            BrokenError: it was not complete.
        """
        if self._xing is None:
            raise BrokenError("no frame")
        return self._counted(self._xing, self._joiner.next_segment())

    def finish(self, samples: int) -> tuple[bytes, bytes]:
        """End the track: all of the last segment has been added, and the source has this many samples of each channel.

        Returns the last bytes of the track, and its first frame, which replaces the one at the beginning.

        Raises:
            BrokenError: a segment was not complete, or the number of samples does not fit.
        """
        if self._xing is None:
            raise BrokenError("no frame")
        last = self._counted(self._xing, self._joiner.finish())
        return last, self._xing.frame(samples)

    def _counted(self, xing: XingFrame, sound: bytes) -> bytes:
        xing.add(sound)
        return sound


def _first_frame_bytes(content: bytes) -> int | None:
    """Return the size of the first frame; None if its header is not complete."""
    if len(content) < _HEADER_BYTES:
        return None
    frame = parse_header(int.from_bytes(content[:_HEADER_BYTES]))
    if frame is None:
        raise BrokenError("the first segment does not begin with a frame")
    return frame.size_bytes
