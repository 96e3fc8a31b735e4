"""The walk over MP3 frames, on streams that are built here byte by byte. Real encoders run in tests/process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.mp3 import parse_header, walk
from ytmp3.converter.audio.tags import Tags

RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)


def frame(kbps: int = 192, *, padding: int = 0, body: bytes = b"") -> bytes:
    """One MPEG 1 layer III frame, 44.1 kHz, joint stereo."""
    header = 0xFFFB0000 | RATES.index(kbps) << 12 | padding << 9 | 1 << 6
    size = 144_000 * kbps // 44100 + padding
    return header.to_bytes(4) + body.ljust(size - 4, b"\0")


def info_frame(*, delay: int, padding: int) -> bytes:
    tag = b"Info" + (15).to_bytes(4) + bytes(4 + 4 + 100 + 4) + b"Lavc63".ljust(21, b"\0")
    return frame(body=bytes(32) + tag + (delay << 12 | padding).to_bytes(3) + bytes(12))


@given(st.lists(st.sampled_from(RATES[1:]), min_size=1, max_size=60), st.booleans())
def test_every_stream_of_whole_frames_is_walked(rates: list[int], padded: bool) -> None:
    stream = walk(b"".join(frame(kbps, padding=padded) for kbps in rates))
    assert stream.frames == len(rates)
    assert stream.duration_seconds == pytest.approx(len(rates) * 1152 / 44100)
    assert stream.bitrate_kbps == (rates[0] if len(set(rates)) == 1 else None)


@given(st.integers(1, 20), st.data())
def test_a_stream_that_is_cut_inside_a_frame_is_refused(count: int, data: st.DataObject) -> None:
    whole = frame() * count
    cut = data.draw(st.integers(0, len(whole) - 1))
    frames, rest = divmod(cut, len(frame()))
    if rest or not frames:
        with pytest.raises(BrokenError):
            walk(whole[:cut])
    else:
        assert walk(whole[:cut]).frames == frames


@given(st.binary(max_size=300))
def test_junk_is_refused_and_never_crashes(junk: bytes) -> None:
    try:
        walk(junk)
    except BrokenError:
        return
    assert parse_header(int.from_bytes(junk[:4])) or junk[:3] == b"ID3"


@given(st.binary(min_size=1, max_size=50))
def test_junk_behind_the_frames_is_refused(junk: bytes) -> None:
    if junk[0] != 0xFF:
        with pytest.raises(BrokenError):
            walk(frame() * 3 + junk)


def test_the_info_frame_has_no_sound_and_its_delay_is_subtracted() -> None:
    stream = walk(info_frame(delay=1105, padding=1000) + frame() * 10)
    assert stream.frames == 10
    assert stream.duration_seconds == pytest.approx((10 * 1152 - 2105) / 44100)


def test_tags_at_the_start_and_the_end_are_skipped() -> None:
    tags = Tags(title="t", artist=None, link="https://youtu.be/dQw4w9WgXcQ", cover=b"\xff\xfb\xb0\x40" * 100)
    assert walk(id3v2_tag(tags) + frame() * 5 + b"TAG".ljust(128, b"\0")).frames == 5


def test_a_stream_that_changes_its_sample_rate_is_refused() -> None:
    other = (0xFFFB0000 | 11 << 12 | 1 << 10).to_bytes(4).ljust(576, b"\0")
    with pytest.raises(BrokenError, match="changes"):
        walk(frame() * 2 + other)


@pytest.mark.parametrize("content", [b"", b"ID3\x03\0\0\0\0\0\0", b"\xff\xfb", b"RIFF" * 10])
def test_content_without_a_frame_is_refused(content: bytes) -> None:
    with pytest.raises(BrokenError):
        walk(content)


@given(st.integers(0, 2**32 - 1))
def test_any_header_is_refused_or_gives_a_plausible_size(header: int) -> None:
    found = parse_header(header)
    assert found is None or (24 <= found.size_bytes <= 1441 and found.samples in {576, 1152})
