"""Joined segments sound as good as one encoding. `python -m scripts.joins` tests far more signals and qualities."""

import pytest

from tests.stand.joined_sound import SIGNALS, compared, encoded, joined, samples
from ytmp3.converter.audio.mp3 import parse_header, walk
from ytmp3.converter.audio.samples import SampleForm
from ytmp3.converter.audio.segments import GRID_FRAMES, Plan
from ytmp3.converter.audio.xing import XingFrame
from ytmp3.core.recipe import Quality

PLAN = Plan(segment_frames=2 * GRID_FRAMES)
STEREO = SampleForm(sample_rate=48000, channels=2)


@pytest.mark.parametrize(
    ("name", "quality", "form"),
    [
        ("band", Quality.K128, STEREO),
        ("speech", Quality.V2, STEREO),
        ("castanets", Quality.K320, SampleForm(sample_rate=44100, channels=1)),
    ],
)
def test_the_sound_at_a_join_is_as_good_as_that_of_one_encoder(name: str, quality: Quality, form: SampleForm) -> None:
    signal = SIGNALS[name]
    content = samples(signal, form, 8.5)
    found = compared(content, form, quality, PLAN).losses
    assert len(found) == 2
    assert max(found) <= (0.2 if signal.is_hostile else 0.05), found


@pytest.mark.parametrize(
    ("quality", "form"),
    [(Quality.K96, STEREO), (Quality.V5, SampleForm(sample_rate=32000, channels=1))],
)
def test_the_first_frame_is_that_of_ffmpeg(quality: Quality, form: SampleForm) -> None:
    content = samples(SIGNALS["arpeggio"], form, 12.3)
    whole = encoded(content, form, quality)
    facts = parse_header(int.from_bytes(whole[:4]))
    assert facts is not None
    first, sound = whole[: facts.size_bytes], whole[facts.size_bytes :]
    frame = XingFrame(first)
    frame.add(sound)
    assert frame.frame(len(content) // form.step_bytes) == first
    other = joined(content, form, quality, PLAN)
    assert walk(other).frames == walk(whole).frames
    assert walk(other).duration_seconds == walk(whole).duration_seconds
