"""Divides a long track into overlapping segments that are encoded side by side, on the grid of MP3 frames. Pure.

A frame of MPEG-1 layer III holds 1,152 samples. Frame `i` of an encoding of the whole track, and frame `i - a` of an
encoding that begins at sample `1152 * a`, describe the same samples, because the encoder's delay is the same. So a
segment begins at a multiple of 1,152 samples. Each one begins some frames before the place where its sound is used, and
ends some frames after the place where the next one takes over; `joining` chooses the exact frame of each join.

    segment 0   ......................xxxx
    segment 1                     pppp....................xxxx
    segment 2                                         pppp..............
                                  p: pre-roll         x: overlap
"""

import math
from typing import Final, Self

from msgspec import Struct, structs

FRAME_SAMPLES: Final = 1152
"""Samples of each channel in a frame of MPEG-1."""

GRID_FRAMES: Final = 49
"""Segments begin at multiples of this many frames. At 44.1 kHz and a constant bit rate, some frames have a byte of
padding, and their pattern repeats after 49 frames. So the frames of all segments have the sizes of one encoding."""

PRE_ROLL_FRAMES: Final = 100
"""Frames at the beginning of a segment that are not used: two seconds. At the join, the encoder's state must be that of
one encoding. Its filter bank and its bit reservoir need a few frames. Its threshold of hearing needs the most: in quiet
sound, it falls from 1 to 0.000625 by a factor of 0.925 a frame (`adjust_ATH` in LAME's encoder.c), which takes 95
frames. With a pre-roll of 20 frames, the signal-to-noise ratio of noise at -80 dBFS was up to 0.18 dB lower at a join;
with 100 frames, it is the same."""

OVERLAP_FRAMES: Final = 20
"""Frames from the end of the pre-roll on that both segments have: the choice for the join. The last two are not usable,
because the encoder has not seen the sound behind them."""

UNUSABLE_FRAMES: Final = 2
"""Frames at the end of a segment that depend on sound behind it: frame `i` depends on 1,376 samples from its own first
one on."""

SEGMENT_FRAMES: Final = 51 * GRID_FRAMES
"""Frames from the beginning of a segment to that of the next one: one minute. Each segment encodes 120 frames more, and
needs a process. Together this costs 8 % of the encoder's CPU time. A minute of decoded sound has 23 MB at 48 kHz."""

LONG_SECONDS: Final = 900.0
"""Tracks of this length, in seconds, and longer ones have segments of twice the length, which cost half as much. In
shorter tracks, too few encoders would work at the end: the last segment keeps only one busy."""

SAMPLE_RATES: Final = frozenset({32000, 44100, 48000})
"""The sample rates of MPEG-1. Lower ones have frames of 576 samples, and higher ones are converted by FFmpeg."""


class Segment(Struct, frozen=True, kw_only=True):
    """A part of the track. All positions are frames of the whole track."""

    number: int
    first_frame: int
    """The first frame that is encoded."""
    cut_frame: int
    """The first frame that may be used: the segment before has all earlier ones."""
    end_frame: int
    """The end of the sound that is encoded. The last segment ends with the track instead."""


class Plan(Struct, frozen=True, kw_only=True):
    """The division of a track whose length need not be known before."""

    min_seconds: float = 300.0
    """Shortest track, in seconds, that is divided. One encoder needs 4 s for it."""
    segment_frames: int = SEGMENT_FRAMES
    """A multiple of GRID_FRAMES. It is at least two of them, so that the joins at both ends change other frames."""

    def for_track(self, seconds: float) -> Self:
        """Return the plan for a track of about this length."""
        return structs.replace(self, segment_frames=2 * self.segment_frames) if seconds >= LONG_SECONDS else self

    def segment(self, number: int) -> Segment:
        """Return a segment, which does not exist if the track ends before: see `is_needed`."""
        first = number * self.segment_frames
        return Segment(
            number=number,
            first_frame=first,
            cut_frame=first + PRE_ROLL_FRAMES if number else 0,
            end_frame=first + self.segment_frames + PRE_ROLL_FRAMES + OVERLAP_FRAMES,
        )

    def count(self, samples: int) -> int:
        """Return the number of segments of a track with so many samples of each channel.

        A track that ends within the overlap of two segments ends with the first of them, so that each join has the
        whole overlap to choose from.
        """
        overlap = PRE_ROLL_FRAMES + OVERLAP_FRAMES
        return max(1, math.ceil((samples - overlap * FRAME_SAMPLES) / (self.segment_frames * FRAME_SAMPLES)))


def samples_in(frames: int) -> int:
    """Return the number of samples of each channel in so many frames."""
    return frames * FRAME_SAMPLES


def may_be_joined(sample_rate: int, channels: int) -> bool:
    """Return whether sound of this form is encoded as it is: without another sample rate, and without mixing."""
    return sample_rate in SAMPLE_RATES and channels in {1, 2}
