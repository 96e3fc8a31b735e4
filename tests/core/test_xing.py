"""The first frame of a joined track. That it is FFmpeg's own, byte for byte, is tested with FFmpeg (tests/process)."""

import random

import pytest

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.joined_track import JoinedTrack
from ytmp3.converter.audio.mp3 import parse_header, walk
from ytmp3.converter.audio.segments import Plan
from ytmp3.converter.audio.xing import XingFrame, checksum

PLAIN = 0xFFFB_0400
DELAY = 576


def frame(index: int, content: bytes = b"") -> bytes:
    header = PLAIN | index << 12
    facts = parse_header(header)
    assert facts is not None
    return (header.to_bytes(4) + bytes(facts.side_info_bytes) + content).ljust(facts.size_bytes, b"\0")


def template() -> bytes:
    tag = bytearray(b"Xing" + (15).to_bytes(4) + bytes(148))
    tag[120:129], tag[141:144] = b"Lavf lame", (DELAY << 12).to_bytes(3)
    return frame(9, bytes(tag))


def test_the_checksum_is_that_of_lame() -> None:
    assert checksum(b"123456789") == 0xBB3D


@pytest.mark.parametrize("count", [1, 85, 399, 400, 401, 2000])
def test_the_frame_describes_all_frames_after_it(count: int) -> None:
    chance = random.Random(count)
    frames = [frame(9, chance.randbytes(300)) for _ in range(count)]
    sound = b"".join(frames)
    xing = XingFrame(template())
    # In pieces of several frames.
    for position in range(0, count, 7):
        xing.add(b"".join(frames[position : position + 7]))
    samples = count * 1152 - DELAY - 100
    first = xing.frame(max(0, samples))
    tag = first[36:]
    assert tag[:4] == b"Info"
    assert (int.from_bytes(tag[8:12]), int.from_bytes(tag[12:16])) == (count, len(first) + len(sound))
    table = tag[16:116]
    assert table[0] == 0
    # All frames have the same size, so each entry is near its percent.
    assert all(abs(entry - 256 * number / 100) < 1.7 + 512 / count for number, entry in enumerate(table) if number)
    assert int.from_bytes(tag[152:154]) == checksum(sound)
    assert walk(first + sound).duration_seconds == pytest.approx(max(0, samples) / 48000)
    assert first[36 + 120 :][:9] == b"Lavf lame"


def test_frames_of_several_bit_rates_make_a_variable_one() -> None:
    xing = XingFrame(template())
    xing.add(frame(9) + frame(10))
    assert xing.frame(1000)[36:40] == b"Xing"


@pytest.mark.parametrize(
    "first",
    [
        *(b"", bytes(384), frame(9), frame(1, template()[36:]), template()[:-1]),
        frame(9, b"Xing" + (7).to_bytes(4) + bytes(148)),
        b"\xff\xf3" + template()[2:],
    ],
)
def test_a_frame_that_is_not_that_of_ffmpeg_is_no_template(first: bytes) -> None:
    with pytest.raises(BrokenError):
        XingFrame(first)


def test_what_does_not_fit_is_refused() -> None:
    xing = XingFrame(template())
    with pytest.raises(BrokenError):
        xing.frame(0)
    for broken in (frame(9)[:-1], bytes(500)):
        with pytest.raises(BrokenError):
            xing.add(broken)
    xing = XingFrame(template())
    xing.add(frame(9) * 10)
    for samples in (10 * 1152, 1152):
        with pytest.raises(BrokenError):
            xing.frame(samples)


def test_a_short_track_of_one_segment_is_the_encoders_own() -> None:
    sound = frame(9) * 30
    for piece in (1, 100, 10**6):
        track = JoinedTrack(Plan(), is_variable=False)
        content = template() + sound
        written = b"".join(
            track.add(content[position : position + piece]) for position in range(0, len(content), piece)
        )
        assert track.samples == 30 * 1152
        last, first = track.finish(30 * 1152 - DELAY - 9)
        assert written + last == content
        assert len(first) == len(template())
    with pytest.raises(BrokenError):
        JoinedTrack(Plan(), is_variable=False).finish(0)
    with pytest.raises(BrokenError):
        JoinedTrack(Plan(), is_variable=False).add(bytes(4))
