"""The header of decoded sound."""

import struct

import pytest

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.samples import MAX_HEADER_BYTES, SampleForm, read_header


def header(kind: int = 3, channels: int = 2, bits: int = 32, *more: bytes) -> bytes:
    form = struct.pack("<HHIIHHH", kind, channels, 48000, 48000 * 4 * channels, 4 * channels, bits, 0)
    chunks = [b"fmt " + len(form).to_bytes(4, "little") + form, *more]
    return b"RIFF\xff\xff\xff\xffWAVE" + b"".join(chunks) + b"data\xff\xff\xff\xff"


@pytest.mark.parametrize("more", [b"", b"fact" + (4).to_bytes(4, "little") + bytes(4)])
def test_the_form_is_known_once_the_samples_begin(more: bytes) -> None:
    for channels, kind in ((1, 3), (2, 3), (6, 0xFFFE)):
        whole = header(kind, channels, 32, more)
        assert all(read_header(whole[:size]) is None for size in range(len(whole)))
        form = SampleForm(sample_rate=48000, channels=channels)
        assert read_header(whole + bytes(100)) == (form, len(whole))
        assert form.step_bytes == 4 * channels


@pytest.mark.parametrize(
    "beginning",
    [
        header(kind=1),
        header(bits=16),
        header(channels=0),
        b"OggS" + header()[4:],
        b"RIFF\xff\xff\xff\xffWAVEdata\xff\xff\xff\xff",
        b"RIFF\xff\xff\xff\xffWAVE" + b"LIST\xff\xff\xff\x7f" + bytes(MAX_HEADER_BYTES),
    ],
)
def test_another_stream_is_refused(beginning: bytes) -> None:
    with pytest.raises(BrokenError):
        read_header(beginning)
