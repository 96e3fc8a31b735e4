"""`python -m scripts.joins`: encodes many signals in segments, and compares each join with one encoding.

For each signal, quality, sample rate and number of channels: the number of frames and, with a constant bit rate, of
bytes is that of one encoding; the decoded length is that of the source, to the sample; FFmpeg decodes without a
warning; and at each join, the signal-to-noise ratio is at most 0.05 dB lower (0.2 dB with hostile signals).

mpg123 is a second decoder, where it is installed (or named by `--mpg123`): it must not complain, decode to the same
length, and around each join to the same samples.
"""

import argparse
import array
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.stand.joined_sound import SIGNALS, decoded, joined, losses, samples, windows
from ytmp3.converter.audio.joining import NotJoinableError
from ytmp3.converter.audio.samples import SampleForm
from ytmp3.converter.audio.segments import GRID_FRAMES, Plan
from ytmp3.core.recipe import Quality

PLAN: Final = Plan(segment_frames=2 * GRID_FRAMES)
FORMS: Final = {
    "48 kHz stereo": SampleForm(sample_rate=48000, channels=2),
    "44.1 kHz stereo": SampleForm(sample_rate=44100, channels=2),
    "32 kHz mono": SampleForm(sample_rate=32000, channels=1),
}
MAX_LOSS: Final = {False: 0.05, True: 0.2}
"""Most dB that a join may lose, with ordinary and with hostile signals."""
MAX_DIFFERENCE: Final = 2.5
"""Largest difference between two decoders, in steps of 16 bits: rounding, and 32-bit numbers inside."""
COMPLAINT: Final = re.compile(r"warn|error|resync|missing|cannot|invalid|illegal|junk", re.IGNORECASE)


def main() -> None:
    """Check all combinations, and end with status 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each signal")
    parser.add_argument("--forms", nargs="*", default=[*FORMS], choices=[*FORMS])
    parser.add_argument("--qualities", nargs="*", type=Quality, default=[*Quality])
    parser.add_argument("--signals", nargs="*", default=[*SIGNALS], choices=[*SIGNALS])
    parser.add_argument("--mpg123", default=shutil.which("mpg123"))
    options = parser.parse_args()
    if options.mpg123 is None:
        print("NOT TESTED with a second decoder: mpg123 is not installed")
    combinations = [
        (form, signal, quality) for form in options.forms for signal in options.signals for quality in options.qualities
    ]
    failed, joins, worst = 0, 0, dict.fromkeys(MAX_LOSS, -100.0)
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        results = threads.map(lambda one: checked(one, options.seconds, options.mpg123), combinations)
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


def checked(combination: tuple[str, str, Quality], seconds: float, mpg123: str | None) -> tuple[list[float], list[str]]:
    """Check one combination. Returns the losses at its joins in dB, and what is wrong."""
    form_name, name, quality = combination
    form = FORMS[form_name]
    content = samples(SIGNALS[name], form, seconds)
    try:
        found = losses(content, form, quality, PLAN)
        if mpg123 is not None:
            compare_decoders(mpg123, joined(content, form, quality, PLAN), form)
    except (AssertionError, NotJoinableError) as error:
        return [], [f"{error}"]
    return found, []


def compare_decoders(mpg123: str, mp3: bytes, form: SampleForm) -> None:
    """Decode with both decoders, and compare the samples around each join."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "joined.mp3")
        path.write_bytes(mp3)
        process = subprocess.run(
            [mpg123, "--no-control", "-s", "-e", "s16", path], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
    complaints = [line for line in process.stderr.decode().splitlines() if COMPLAINT.search(line)]
    assert not complaints, complaints
    theirs = array.array("h")
    theirs.frombytes(process.stdout)
    ours = decoded(mp3)
    assert len(theirs) == len(ours), f"mpg123 decodes {len(theirs)} samples, FFmpeg {len(ours)}"
    largest = max(differences(ours, theirs, form), default=0.0)
    assert largest <= MAX_DIFFERENCE, f"the decoders differ by {largest:.1f} steps"


def differences(ours: "array.array[float]", theirs: "array.array[int]", form: SampleForm) -> Iterator[float]:
    for part in windows(PLAN, form, len(ours)):
        for one, other in zip(ours[part], theirs[part], strict=True):
            yield abs(max(-32768.0, min(32767.0, 32768 * one)) - other)


if __name__ == "__main__":
    main()
