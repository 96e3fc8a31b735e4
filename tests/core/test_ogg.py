"""Ogg Opus files, built here byte by byte: every damage is found, and new tags change no sound."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.converter.audio.broken import BrokenError, CutError
from ytmp3.converter.audio.ogg import pieces_of_opus, read_opus
from ytmp3.converter.audio.ogg_tags import opus_tags
from ytmp3.converter.audio.tags import Tags
from ytmp3.core.ogg_checksum import checksum

SERIAL = (77).to_bytes(4, "little")
PRE_SKIP = 312
HEAD = b"OpusHead\x01\x02" + PRE_SKIP.to_bytes(2, "little") + (48_000).to_bytes(4, "little") + bytes(3)
FOUR_CHANNELS = HEAD[:9] + b"\x04" + HEAD[10:18] + b"\x02\x02\x02" + bytes(range(4))
NO_TAGS = b"OpusTags" + bytes(8)
FRAME = b"\xf8"
"""The first byte of a packet with one frame of 20 ms in stereo."""
TAGS = Tags(title="Título", artist="Someone", link="https://www.youtube.com/watch?v=x", cover=b"\xff\xd8\xff" * 40_000)


def slow_checksum(page: bytes) -> int:
    """The checksum as RFC 3533 defines it, bit by bit."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 1 << 31 else crc << 1) & 0xFFFFFFFF
    return crc


def page(number: int, granule: int, *packets: bytes, flags: int = 0, open_end: bool = False) -> bytes:
    segments, body = b"", b"".join(packets)
    for packet in packets:
        segments += b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    if open_end:
        segments = segments[:-1]
    front = b"OggS\0" + bytes([flags]) + granule.to_bytes(8, "little") + SERIAL + number.to_bytes(4, "little")
    whole = front + bytes(4) + bytes([len(segments)]) + segments + body
    return front + checksum(whole).to_bytes(4, "little") + whole[26:]


def packet(size: int, seed: int = 0) -> bytes:
    return FRAME + (zlib.crc32(bytes([seed])).to_bytes(4) * (size // 4 + 1))[: size - 1]


def stream(sizes: list[list[int]], *, trimmed: int = 0, head: bytes = HEAD) -> bytes:
    """A file with these sizes of packets on each page, and so many samples to drop at the end."""
    pages = [page(0, 0, head, flags=2), page(1, 0, NO_TAGS)]
    granule = 0
    for number, packets in enumerate(sizes):
        granule += 960 * len(packets)
        is_last = number == len(sizes) - 1
        bodies = [packet(size, number) for size in packets]
        pages.append(page(number + 2, granule - trimmed * is_last, *bodies, flags=4 * is_last))
    return b"".join(pages)


SIZES = st.lists(st.lists(st.integers(1, 600), min_size=1, max_size=8), min_size=1, max_size=6)


@given(st.binary(max_size=200))
def test_the_checksum_is_that_of_the_specification(content: bytes) -> None:
    assert checksum(content) == slow_checksum(content)


@given(SIZES, st.integers(0, 500))
def test_a_clean_file_is_read_and_new_tags_change_no_packet(sizes: list[list[int]], trimmed: int) -> None:
    content = stream(sizes, trimmed=trimmed)
    count = sum(map(len, sizes))
    opus = read_opus(content)
    assert opus.duration_seconds == pytest.approx((960 * count - trimmed - PRE_SKIP) / 48_000)
    tagged = b"".join(pieces_of_opus(opus, content, opus_tags(TAGS)))
    again = read_opus(tagged)
    assert (again.head, again.duration_seconds) == (HEAD, opus.duration_seconds)
    assert [tagged[each.start : each.end] for each in again.pages] == [
        content[each.start : each.end] for each in opus.pages
    ]
    # Without any tags, another writer would have made the same file, but for the serial number.
    bare = b"".join(pieces_of_opus(opus, content, NO_TAGS))
    assert [each.granule for each in pages_of(bare)] == [each.granule for each in pages_of(content)]


class _Seen:
    def __init__(self, granule: int) -> None:
        self.granule = granule


def pages_of(content: bytes) -> list[_Seen]:
    found, position = [], 0
    while position < len(content):
        found.append(_Seen(int.from_bytes(content[position + 6 : position + 14], "little")))
        segments = content[position + 27 : position + 27 + content[position + 26]]
        position += 27 + len(segments) + sum(segments)
    return found


def test_a_packet_may_continue_on_the_next_page() -> None:
    whole = packet(700)
    first = page(2, 2**64 - 1, whole[:510], open_end=True)
    content = page(0, 0, HEAD, flags=2) + page(1, 0, NO_TAGS) + first + page(3, 960, whole[510:], flags=5)
    opus = read_opus(content)
    assert [each.samples for each in opus.pages] == [0, 960]
    tagged = b"".join(pieces_of_opus(opus, content, opus_tags(TAGS)))
    assert tagged.endswith(content[-190:])
    assert read_opus(tagged).pages[1].is_continued
    for missing in (content.replace(first, b""), content.replace(first, page(2, 960, whole[:500]))):
        with pytest.raises(BrokenError):
            read_opus(missing)


@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    content = bytearray(stream([[40, 300], [20]]))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BrokenError):
        read_opus(bytes(content))


def refused(content: bytes) -> bool:
    try:
        read_opus(content)
    except (BrokenError, CutError):
        return True
    return False


@given(st.data())
def test_a_file_that_is_cut_anywhere_is_refused(data: st.DataObject) -> None:
    content = stream([[40, 300], [20]])
    assert refused(content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.binary(max_size=120))
def test_junk_is_refused_and_never_crashes(junk: bytes) -> None:
    assert refused(junk)
    assert refused(stream([[40]]) + (junk or b"\0"))
    assert refused(page(0, 0, HEAD, flags=2) + page(1, 0, NO_TAGS) + page(2, 960, junk, flags=4)) or junk


@pytest.mark.parametrize(
    ("body", "samples"),
    [
        (b"\xf8" + bytes(100), 960),
        (b"\x00" + bytes(100), 480),
        (b"\x18" + bytes(100), 2880),
        (b"\x60" + bytes(100), 480),
        (b"\x80" + bytes(100), 120),
        (b"\xf9" + bytes(100), 1920),
        (b"\xf9" + bytes(101), None),
        (b"\xfa\x05" + bytes(100), 1920),
        (b"\xfa\x65" + bytes(100), None),
        (b"\xfa\xfc\x01" + bytes(300), 1920),
        (b"\xfb\x03" + bytes(99), 2880),
        (b"\xfb\x03" + bytes(100), None),
        (b"\xfb\x00", None),
        (b"\xfb\x07" + bytes(70), None),
        (b"\xfb\x83\x0a\x0a" + bytes(40), 2880),
        (b"\xfb\x83\x0a\x7f" + bytes(40), None),
        (b"\xfb\x42\x04" + bytes(20), 1920),
        (b"\xfb\x42\xff\x04" + bytes(300), 1920),
        (b"\xfb\x42\xff\x04" + bytes(200), None),
        (b"\xfb\x42", None),
        (b"\xf8" + bytes(1276), None),
        (b"\xfb", None),
        (b"\xfa", None),
        (b"", None),
    ],
)
def test_the_structure_of_each_packet_is_checked(body: bytes, samples: int | None) -> None:
    front = page(0, 0, HEAD, flags=2) + page(1, 0, NO_TAGS) + page(2, 960, packet(50))
    content = front + page(3, 20_000, body, flags=4)
    if samples is None:
        assert refused(content)
    else:
        assert read_opus(content).pages[1].samples == samples


def test_packets_of_several_streams_are_measured_by_their_first_byte() -> None:
    assert read_opus(stream([[40, 40]], head=FOUR_CHANNELS)).duration_seconds == pytest.approx(1608 / 48_000)
    assert refused(stream([[40, 40]], head=FOUR_CHANNELS[:-1]))


def test_a_gap_in_the_time_does_not_reach_the_new_file() -> None:
    front = page(0, 0, HEAD, flags=2) + page(1, 0, NO_TAGS)
    content = front + page(2, 960, packet(50)) + page(3, 500_000, packet(50), flags=4)
    opus = read_opus(content)
    assert opus.duration_seconds == pytest.approx((1920 - PRE_SKIP) / 48_000)
    assert pages_of(b"".join(pieces_of_opus(opus, content, NO_TAGS)))[-1].granule == 1920


@pytest.mark.parametrize(
    "content",
    [
        page(0, 0, b"OpusHead\x21" + HEAD[9:], flags=2) + stream([[40]])[47:],
        page(0, 0, HEAD) + stream([[40]])[47:],
        page(0, 0, HEAD, flags=2) + page(1, 0, b"OpusTacks" + bytes(8)) + page(2, 960, packet(50), flags=4),
        page(0, 0, HEAD, flags=2) + page(1, 0, NO_TAGS),
        page(0, 0, HEAD, flags=2) + page(1, 0, NO_TAGS) + page(2, 960, packet(50)),
        page(0, 0, HEAD, flags=2) + page(1, 0, NO_TAGS) + page(2, 0, b"\x80", flags=4),
        page(0, 0, HEAD, flags=2) + page(1, 0, NO_TAGS) + page(2, 9600, packet(50)) + page(3, 960, packet(50), flags=4),
        page(0, 0, HEAD, flags=2) + page(1, 0, NO_TAGS) + page(3, 960, packet(50), flags=4),
    ],
)
def test_a_stream_that_is_not_whole_is_refused(content: bytes) -> None:
    assert refused(content)
