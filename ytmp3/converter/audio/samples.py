"""The form of decoded sound, as FFmpeg writes it into the header of a WAV stream. Pure.

A WAV stream is "RIFF", a size, "WAVE", and then chunks: a name of four bytes, a size, and the content. The chunk "fmt "
has the form, and "data" has the samples. In a stream, its size is not known, and all bytes up to the end belong to it.
"""

from typing import Final

from msgspec import Struct

from ytmp3.converter.audio.broken import BrokenError

SAMPLE_BYTES: Final = 4
"""Size of a sample: a 32-bit floating point number."""

MAX_HEADER_BYTES: Final = 1024
"""Longest accepted header, in bytes. FFmpeg's has 46 bytes, and 68 with more than two channels."""

_FLOAT: Final = 3
_EXTENSIBLE: Final = 0xFFFE
"""The format of sound with more than two channels, whose samples are described elsewhere in the chunk."""


class SampleForm(Struct, frozen=True, kw_only=True):
    """Floating point samples, those of all channels one after the other."""

    sample_rate: int
    channels: int

    @property
    def step_bytes(self) -> int:
        """The size of one sample of each channel."""
        return SAMPLE_BYTES * self.channels


def read_header(beginning: bytes) -> tuple[SampleForm, int] | None:
    """Return the form of a WAV stream, and where its samples begin. None if more bytes are needed.

    Raises:
        BrokenError: it is no such stream.
    """
    position, form = 12, None
    while len(beginning) >= position + 8:
        if beginning[:4] != b"RIFF" or beginning[8:12] != b"WAVE":
            raise BrokenError("the decoded sound is no WAV stream")
        name, size = (
            beginning[position : position + 4],
            int.from_bytes(beginning[position + 4 : position + 8], "little"),
        )
        position += 8
        if name == b"data":
            if form is None:
                raise BrokenError("the decoded sound has no form")
            return form, position
        if name == b"fmt " and len(beginning) >= position + 16:
            form = _form_in(beginning[position : position + 16])
        position += size
    if len(beginning) >= MAX_HEADER_BYTES:
        raise BrokenError("the header of the decoded sound is too long")
    return None


def _form_in(chunk: bytes) -> SampleForm:
    kind, channels = int.from_bytes(chunk[:2], "little"), int.from_bytes(chunk[2:4], "little")
    if kind not in {_FLOAT, _EXTENSIBLE} or int.from_bytes(chunk[14:16], "little") != 8 * SAMPLE_BYTES or not channels:
        raise BrokenError("the decoded sound has another form")
    return SampleForm(sample_rate=int.from_bytes(chunk[4:8], "little"), channels=channels)
