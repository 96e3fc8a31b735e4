"""`python -m scripts.joins`: encodes many signals in segments, and compares each join with one encoding.

For each signal, quality, sample rate and number of channels: the number of frames and, with a constant bit rate, of
bytes is that of one encoding; the decoded length is that of the source, to the sample; FFmpeg decodes without a
warning; and at each join, the signal-to-noise ratio is at most 0.05 dB lower (0.2 dB with hostile signals).

Two more decoders are used where they are installed. They must not complain, decode to the same length, and around each
join to the same samples: mpg123 (or the program that `--mpg123` names), and dr_mp3, which `pip install miniaudio`
brings.
"""

import argparse
import array
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.stand.joined_sound import SIGNALS, compared, decoded, floats, samples, windows
from ytmp3.converter.audio.joining import NotJoinableError
from ytmp3.converter.audio.samples import SampleForm
from ytmp3.converter.audio.segments import GRID_FRAMES, Plan, samples_in
from ytmp3.core.recipe import Quality

PLAN: Final = Plan(segment_frames=2 * GRID_FRAMES)
FORMS: Final = {
    "48 kHz stereo": SampleForm(sample_rate=48000, channels=2),
    "44.1 kHz stereo": SampleForm(sample_rate=44100, channels=2),
    "48 kHz mono": SampleForm(sample_rate=48000, channels=1),
    "44.1 kHz mono": SampleForm(sample_rate=44100, channels=1),
    "32 kHz stereo": SampleForm(sample_rate=32000, channels=2),
    "32 kHz mono": SampleForm(sample_rate=32000, channels=1),
}
MAX_LOSS: Final = {False: 0.05, True: 0.2}
"""Most dB that a join may lose, with ordinary and with hostile signals."""
MAX_DIFFERENCE: Final = 2.5
"""Largest difference between two decoders, in steps of 16 bits: rounding, and 32-bit numbers inside."""
HAS_DR_MP3: Final = importlib.util.find_spec("miniaudio") is not None
COMPLAINT: Final = re.compile(r"warn|error|resync|missing|cannot|invalid|illegal|junk", re.IGNORECASE)


def main() -> None:
    """Check all combinations, and end with status 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--joins", type=int, default=2, help="joins in each signal, which is as long as they need")
    parser.add_argument("--forms", nargs="*", default=[*FORMS], choices=[*FORMS])
    parser.add_argument("--qualities", nargs="*", type=Quality, default=[*Quality])
    parser.add_argument("--signals", nargs="*", default=[*SIGNALS], choices=[*SIGNALS])
    parser.add_argument("--mpg123", default=shutil.which("mpg123"))
    options = parser.parse_args()
    if options.mpg123 is None:
        print("NOT TESTED with mpg123, which is not installed")
    if not HAS_DR_MP3:
        print("NOT TESTED with dr_mp3: miniaudio is not installed")
    combinations = [
        (form, signal, quality) for form in options.forms for signal in options.signals for quality in options.qualities
    ]
    failed, joins, worst = 0, 0, dict.fromkeys(MAX_LOSS, -100.0)
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        results = threads.map(lambda one: checked(one, options.joins, options.mpg123), combinations)
        for combination, (found, problems) in zip(combinations, results, strict=True):
            is_hostile = SIGNALS[combination[1]].is_hostile
            loss = max(found, default=0.0)
            worst[is_hostile] = max(worst[is_hostile], loss)
            joins += len(found)
            if problems or loss > MAX_LOSS[is_hostile]:
                failed += 1
                print(
                    "FAILED ", ", ".join([*combination, *problems]), *(f"{each:+.3f} dB" for each in found), flush=True
                )
    print(f"{len(combinations)} combinations, {joins} joins, {failed} failed")
    print(f"largest loss at a join: {worst[False]:+.3f} dB; with hostile signals {worst[True]:+.3f} dB")
    sys.exit(bool(failed))


def checked(combination: tuple[str, str, Quality], joins: int, mpg123: str | None) -> tuple[list[float], list[str]]:
    """Check one combination. Returns the losses at its joins in dB, and what is wrong."""
    form_name, name, quality = combination
    form = FORMS[form_name]
    content = samples(SIGNALS[name], form, samples_in(PLAN.segment(joins).cut_frame + GRID_FRAMES) / form.sample_rate)
    try:
        comparison = compared(content, form, quality, PLAN)
        ours = decoded(comparison.joined)
        if mpg123 is not None:
            compare_decoders("mpg123", ours, decoded_by_mpg123(mpg123, comparison.joined), form)
        if HAS_DR_MP3:
            compare_decoders("dr_mp3", ours, decoded_by_dr_mp3(comparison.joined, form), form)
    except (AssertionError, NotJoinableError) as error:
        return [], [f"{error}"]
    if len(comparison.losses) != joins:
        return comparison.losses, [f"{len(comparison.losses)} joins"]
    return comparison.losses, []


def decoded_by_mpg123(mpg123: str, mp3: bytes) -> Sequence[float]:
    """Decode with mpg123, which must not complain. It rounds to 16 bits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "joined.mp3")
        path.write_bytes(mp3)
        process = subprocess.run(
            [mpg123, "--no-control", "-s", "-e", "s16", path], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
    complaints = [line for line in process.stderr.decode().splitlines() if COMPLAINT.search(line)]
    assert not complaints, complaints
    rounded = array.array("h")
    rounded.frombytes(process.stdout)
    return [sample / 32768 for sample in rounded]


def decoded_by_dr_mp3(mp3: bytes, form: SampleForm) -> Sequence[float]:
    """Decode with dr_mp3. It has no messages: damaged sound is silence, or other samples."""
    miniaudio = importlib.import_module("miniaudio")
    sound = miniaudio.decode(mp3, miniaudio.SampleFormat.FLOAT32, nchannels=form.channels, sample_rate=form.sample_rate)
    return floats(sound.samples.tobytes())


def compare_decoders(name: str, ours: Sequence[float], theirs: Sequence[float], form: SampleForm) -> None:
    """Compare the samples of FFmpeg and of another decoder around each join."""
    assert len(theirs) == len(ours), f"{name} decodes {len(theirs)} samples, FFmpeg {len(ours)}"
    largest = max(differences(ours, theirs, form), default=0.0)
    assert largest <= MAX_DIFFERENCE, f"{name} differs by {largest:.1f} steps"


def differences(ours: Sequence[float], theirs: Sequence[float], form: SampleForm) -> Iterator[float]:
    """Iterate over the differences around each join, in steps of 16 bits. Louder sound than full scale is clipped."""
    for part in windows(PLAN, form, len(ours)):
        for one, other in zip(ours[part], theirs[part], strict=True):
            yield 32768 * abs(max(-1.0, min(1.0, one)) - max(-1.0, min(1.0, other)))


if __name__ == "__main__":
    main()
