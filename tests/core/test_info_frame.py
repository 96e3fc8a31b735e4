"""The first frame of live sound: players find the duration and the encoder's delay in it, at every rate of MP3."""

import itertools

import pytest

from ytmp3.converter.audio.info_frame import HEAD_BYTES, split_head
from ytmp3.converter.audio.mp3 import parse_header, walk


def frame(header: int, tag: bytes = b"") -> bytes:
    facts = parse_header(header)
    assert facts is not None
    return (header.to_bytes(4) + bytes(facts.side_info_bytes) + tag).ljust(facts.size_bytes, b"\0")


def headers() -> list[int]:
    """Return a header of each version, bit rate, sample rate and number of channels."""
    kinds = itertools.product((0, 2, 3), range(1, 15), range(3), (0, 3), (0, 1))
    return [
        0x7FF << 21 | version << 19 | 1 << 17 | 1 << 16 | bitrate << 12 | rate << 10 | padding << 9 | channels << 6
        for version, bitrate, rate, channels, padding in kinds
    ]


@pytest.mark.parametrize("is_variable", [False, True])
def test_the_frame_names_the_duration_in_front_of_every_kind_of_frame(is_variable: bool) -> None:
    for header in headers():
        facts = parse_header(header)
        assert facts is not None
        sound = frame(header)
        placeholder = frame(header & ~0xF000 | 0xE000, b"Xing")
        split = split_head(placeholder + sound, seconds=100.0, is_variable=is_variable)
        assert split is not None
        info, position = split
        assert position == len(placeholder)
        # The frame is one that the verification of tracks recognises as a tag with a delay, in the same stream.
        stream = walk(info + sound + sound)
        assert (stream.frames, stream.sample_rate) == (2, facts.sample_rate)
        assert stream.duration_seconds == max(0, 2 * facts.samples - 576) / facts.sample_rate
        start = 4 + facts.side_info_bytes
        assert info[start : start + 8] == (b"Xing" if is_variable else b"Info") + (1).to_bytes(4)
        seconds = int.from_bytes(info[start + 8 : start + 12]) * facts.samples / facts.sample_rate
        assert 100 < seconds < 100 + (2 * 576 + facts.samples) / facts.sample_rate


def test_nothing_is_sent_before_the_first_frame_with_sound_is_whole() -> None:
    header = headers()[-1]
    whole = frame(header, b"Xing") + frame(header)
    assert len(whole) <= HEAD_BYTES
    assert all(split_head(whole[:size], seconds=1.0, is_variable=False) is None for size in range(len(whole)))
    assert split_head(whole, seconds=1.0, is_variable=False) is not None


def test_without_an_announced_duration_the_sound_begins_at_once() -> None:
    sound = frame(headers()[0])
    assert split_head(sound, seconds=None, is_variable=False) == (b"", 0)


def test_a_file_that_is_not_an_mp3_is_refused() -> None:
    with pytest.raises(ValueError, match="no frame"):
        split_head(bytes(100), seconds=1.0, is_variable=False)
