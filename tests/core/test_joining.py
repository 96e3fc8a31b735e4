"""Joins of MP3 segments, with frames of a model encoder: after a join, each frame still finds its own sound.

The model knows nothing about sound. It makes main data of random sizes and puts it into the bit reservoir as a real
encoder does. A model decoder finds the main data of a frame by `main_data_begin`, as ISO 11172-3 says.
"""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.joining import Joiner, NotJoinableError
from ytmp3.converter.audio.mp3 import parse_header
from ytmp3.converter.audio.segments import (
    FRAME_SAMPLES,
    GRID_FRAMES,
    OVERLAP_FRAMES,
    PRE_ROLL_FRAMES,
    SEGMENT_FRAMES,
    UNUSABLE_FRAMES,
    Plan,
    may_be_joined,
)

PLAN: Final = Plan(segment_frames=2 * GRID_FRAMES)
STEREO_48: Final = 0xFFFB_0400
MONO_44: Final = 0xFFFB_00C0
MAX_BEGIN: Final = 511
MAX_SOUND_BYTES: Final = 1022
"""Most that the side information of a frame in mono can describe."""


def frame_facts(header: int) -> tuple[int, int]:
    """Return the size of a frame, and the position of its body."""
    facts = parse_header(header)
    assert facts is not None
    return facts.size_bytes, 4 + facts.side_info_bytes


def encode(
    header: int,
    indices: Sequence[int],
    sizes: Sequence[int],
    seed: int,
    *,
    window: int = 0,
    unused: Mapping[int, int] = MappingProxyType({}),
) -> tuple[bytes, list[bytes]]:
    """Make one frame for each bit rate index, and return them with the main data of each.

    The main data of a frame has at most the wanted size: as much as fits into the reservoir and its own body.
    `unused`: how many bytes are left behind the main data of a frame, for the frames that leave any.
    """
    random_bytes = random.Random(seed).randbytes
    bodies, sounds, begins, free_from = bytearray(), [], [], 0
    headers = [header | index << 12 for index in indices]
    for word, wanted in zip(headers, sizes, strict=True):
        size, offset = frame_facts(word)
        begin = max(free_from, len(bodies) - MAX_BEGIN)
        begins.append(len(bodies) - begin)
        bodies += bytes(size - offset)
        sound = random_bytes(min(wanted, len(bodies) - begin, MAX_SOUND_BYTES))
        bodies[begin : begin + len(sound)] = sound
        sounds.append(sound)
        free_from = begin + len(sound) + unused.get(len(sounds) - 1, 0)
    frames, position = bytearray(), 0
    for word, begin, sound in zip(headers, begins, sounds, strict=True):
        size, offset = frame_facts(word)
        bits, first, granules = 8 * (offset - 4), *((18, 2) if offset == 21 else (20, 4))
        side_info = begin << bits - 9 | (4 | window if window else 0) << bits - first - 36
        rest = 8 * len(sound)
        for granule in range(granules):
            length = min(rest, 4088)
            side_info |= length << bits - first - 59 * granule - 12
            rest -= length
        frames += word.to_bytes(4) + side_info.to_bytes(offset - 4) + bodies[position : position + size - offset]
        position += size - offset
    return bytes(frames), sounds


def decode(content: bytes, sounds: Sequence[bytes]) -> list[bytes]:
    """Return the main data that a decoder finds for each frame. The sizes are those of `sounds`."""
    bodies, found, position = bytearray(), [], 0
    for sound in sounds:
        size, offset = frame_facts(int.from_bytes(content[position : position + 4]))
        begin = len(bodies) - (content[position + 4] << 1 | content[position + 5] >> 7)
        bodies += content[position + offset : position + size]
        found.append(bytes(bodies[begin : begin + len(sound)]))
        position += size
    assert position == len(content)
    return found


def joined(parts: Sequence[bytes], *, is_variable: bool, piece: int = 1000) -> bytes:
    joiner = Joiner(PLAN, is_variable=is_variable)
    stream = b""
    for number, part in enumerate(parts):
        if number:
            stream += joiner.next_segment()
        for position in range(0, len(part), piece):
            stream += joiner.add(part[position : position + piece])
    return stream + joiner.finish()


def takeover(stream: bytes, sounds: Sequence[Sequence[bytes]], first: int) -> int:
    """Check that a stream has the sound of one segment, then that of the next one. Returns the frame of the change."""
    one, other = sounds
    for frame in range(first + PRE_ROLL_FRAMES, first + PRE_ROLL_FRAMES + OVERLAP_FRAMES):
        mixed = [*one[:frame], *other[frame - first :]]
        if decode(stream, mixed) == mixed:
            return frame
    raise AssertionError("no frame from which on the sound is that of the next segment")


@given(st.integers(0, 2**32), st.sampled_from([STEREO_48, MONO_44]), st.booleans(), st.sampled_from([37, 1000, 10**6]))
def test_every_frame_of_a_joined_stream_finds_its_own_sound(
    seed: int, header: int, is_variable: bool, piece: int
) -> None:
    chance = random.Random(seed)
    low, high = (1, 14) if is_variable else (9, 9)
    lengths = PLAN.segment(0).end_frame + 1, 150
    indices = [[chance.randint(low, high) for _ in range(length)] for length in lengths]
    fullness = chance.choice([0.3, 0.9, 1.2])
    parts, sounds = zip(
        *(
            encode(header, each, [round(chance.uniform(0.5, 1.5) * fullness * 380) for _ in each], seed + number)
            for number, each in enumerate(indices)
        ),
        strict=True,
    )
    try:
        stream = joined(parts, is_variable=is_variable, piece=piece)
    except NotJoinableError:
        assert not is_variable
        return
    frame = takeover(stream, sounds, PLAN.segment_frames)
    if not is_variable:
        assert len(stream) == sum(
            frame_facts(header | index << 12)[0] for index in [*indices[0][:frame], *indices[1][frame - 98 :]]
        )


def test_a_frame_with_the_same_windows_is_preferred() -> None:
    """The transform of a granule overlaps with that of the one before, and both must have windows that match."""
    count = PLAN.segment(0).end_frame + 1
    full = 10**6
    plain = [encode(STEREO_48, [9] * frames, [full] * frames, seed) for frames, seed in ((count, 1), (150, 2))]
    short, _ = encode(STEREO_48, [9] * 150, [full] * 150, 2, window=2)
    size, _ = frame_facts(STEREO_48 | 9 << 12)
    # The later segment has other windows in the first seven frames of the overlap.
    mixed = short[: size * (PRE_ROLL_FRAMES + 7)] + plain[1][0][size * (PRE_ROLL_FRAMES + 7) :]
    stream = joined([plain[0][0], mixed], is_variable=False)
    assert takeover(stream, [plain[0][1], plain[1][1]], 98) == 98 + PRE_ROLL_FRAMES + 7
    # If they never match, the first frame is taken.
    stream = joined([plain[0][0], short], is_variable=False)
    assert takeover(stream, [plain[0][1], plain[1][1]], 98) == 98 + PRE_ROLL_FRAMES


@pytest.mark.parametrize("header", [STEREO_48, MONO_44])
def test_bytes_that_no_frame_uses_make_space_for_a_join(header: int) -> None:
    """Two encodings may take the same decisions for a long time, and differ by a few bytes of the reservoir only."""
    size, offset = frame_facts(header | 9 << 12)
    count, body = PLAN.segment(0).end_frame + 1, size - offset
    sizes = [body - 200, *[body] * (count - 1)]
    # The same sound, but bytes of the first encoding are unused before the cut.
    one, sounds = encode(header, [9] * count, sizes, 1, unused={110: 4, 113: 6})
    other, later = encode(header, [9] * 150, [body - 200, *[body] * 149], 2)
    stream = joined([one, other], is_variable=False)
    assert takeover(stream, [sounds, later], 98) == 98 + PRE_ROLL_FRAMES
    assert len(stream) == size * (98 + 150)


@pytest.mark.parametrize("unused", [{}, {130: 3, 140: 9}, {119: 1}])
def test_main_data_is_moved_towards_the_end_if_the_earlier_segment_leaves_too_little(unused: dict[int, int]) -> None:
    """`unused`: frames of the later segment behind which bytes are left, so that the later main data is not moved."""
    size, offset = frame_facts(STEREO_48 | 9 << 12)
    count, body = PLAN.segment(0).end_frame + 1, size - offset
    one, sounds = encode(STEREO_48, [9] * count, [body - 190, *[body] * (count - 1)], 1)
    other, later = encode(STEREO_48, [9] * 150, [body - 200, *[body] * 149], 2, unused=unused)
    stream = joined([one, other], is_variable=False)
    frame = takeover(stream, [sounds, later], 98)
    assert frame == 98 + PRE_ROLL_FRAMES
    assert len(stream) == size * (98 + 150)
    begins = [stream[position + 4] << 1 | stream[position + 5] >> 7 for position in range(0, len(stream), size)]
    assert begins[frame - 1 : frame + 2] == [190, 190, 190]


def test_a_segment_whose_main_data_stays_late_can_be_followed_by_another_one() -> None:
    size, offset = frame_facts(STEREO_48 | 9 << 12)
    body, frames = size - offset, PLAN.segment(0).end_frame + 1
    parts, sounds = zip(
        *(encode(STEREO_48, [9] * frames, [body - left, *[body] * (frames - 1)], left) for left in (190, 200, 205)),
        strict=True,
    )
    stream = joined(parts, is_variable=False)
    first = 98 + PRE_ROLL_FRAMES
    mixed = [*sounds[0][:first], *sounds[1][PRE_ROLL_FRAMES:first], *sounds[2][PRE_ROLL_FRAMES:]]
    assert decode(stream, mixed) == mixed


def test_without_a_frame_that_fits_a_variable_bit_rate_makes_space_and_a_constant_one_gives_up() -> None:
    count = PLAN.segment(0).end_frame + 1
    # The first encoder leaves nothing in the reservoir, the second one needs all of it.
    tight, one = encode(STEREO_48, [9] * count, [10**6] * count, 1)
    # Later it borrows nothing, so its main data cannot be moved either.
    wide, other = encode(STEREO_48, [9] * 230, [0] * 10 + [348] * 140 + [400] * 80, 2)
    with pytest.raises(NotJoinableError):
        joined([tight, wide], is_variable=False)
    stream = joined([tight, wide], is_variable=True)
    assert takeover(stream, [one, other], 98) == 98 + PRE_ROLL_FRAMES
    assert 0 < len(stream) - (98 + 230) * 384 <= 960 - 384
    # At the largest bit rate, no frame can be longer.
    tight, _ = encode(STEREO_48, [14] * count, [10**6] * count, 1)
    with pytest.raises(NotJoinableError):
        joined([tight, encode(STEREO_48, [14] * 230, [0] * 10 + [924] * 140 + [980] * 80, 2)[0]], is_variable=True)


def test_frames_before_the_next_cut_are_returned_at_once() -> None:
    segment = PLAN.segment(0)
    content, _ = encode(STEREO_48, [9] * segment.end_frame, [10**6] * segment.end_frame, 1)
    joiner = Joiner(PLAN, is_variable=False)
    returned = sum(len(joiner.add(content[position : position + 384])) for position in range(0, len(content), 384))
    kept = segment.end_frame - returned // 384
    assert OVERLAP_FRAMES < kept < 2 * (PRE_ROLL_FRAMES + OVERLAP_FRAMES)
    assert len(joiner.finish()) == kept * 384


@pytest.mark.parametrize(
    "damage",
    [
        lambda one, other: (one[:-1], other),
        lambda one, other: (one[: 384 * (98 + PRE_ROLL_FRAMES + OVERLAP_FRAMES - UNUSABLE_FRAMES)], other),
        lambda one, other: (one, other[: 384 * PRE_ROLL_FRAMES]),
        lambda one, other: (one, other[1:]),
        lambda one, other: (one, encode(MONO_44, [9] * 150, [9] * 150, 2)[0]),
        lambda one, other: (bytes(1000), other),
        lambda one, other: (b"\xff\xf3" + one[2:], other),
        lambda one, other: (b"\xff\xfa" + one[2:], other),
    ],
    ids=["cut", "short", "too short", "no frames", "another kind", "zeros", "another version", "checksums"],
)
def test_segments_that_are_not_as_the_encoder_writes_them_are_refused(
    damage: Callable[[bytes, bytes], tuple[bytes, bytes]],
) -> None:
    count = PLAN.segment(0).end_frame + 1
    one, _ = encode(STEREO_48, [9] * count, [300] * count, 1)
    other, _ = encode(STEREO_48, [9] * 150, [300] * 150, 2)
    with pytest.raises(BrokenError):
        joined(damage(one, other), is_variable=False)


@given(st.integers(1, 10**7))
def test_every_segment_but_the_last_has_its_whole_overlap(samples: int) -> None:
    count = PLAN.count(samples)
    assert all(PLAN.segment(number).end_frame * FRAME_SAMPLES < samples for number in range(count - 1))
    assert samples <= PLAN.segment(count - 1).end_frame * FRAME_SAMPLES
    for one, other in itertools.pairwise(map(PLAN.segment, range(count))):
        assert other.first_frame % GRID_FRAMES == 0
        assert other.first_frame + PRE_ROLL_FRAMES == other.cut_frame == one.end_frame - OVERLAP_FRAMES


def test_long_tracks_have_longer_segments() -> None:
    usual, short = Plan(), Plan(segment_frames=2 * GRID_FRAMES)
    lengths = [usual.for_track(seconds).segment_frames for seconds in (300, 899.9, 900, 90_000)]
    assert lengths == [SEGMENT_FRAMES, SEGMENT_FRAMES, 2 * SEGMENT_FRAMES, 2 * SEGMENT_FRAMES]
    assert short.for_track(900) == Plan(segment_frames=4 * GRID_FRAMES)


def test_only_the_sample_rates_and_channels_of_mpeg_1_are_joined() -> None:
    assert [rate for rate in (8000, 22050, 24000, 32000, 44100, 48000, 96000) if may_be_joined(rate, 2)] == [
        *(32000, 44100, 48000),
    ]
    assert [channels for channels in range(9) if may_be_joined(48000, channels)] == [1, 2]
