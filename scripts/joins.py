"""`python -m scripts.joins`: encodes many signals in segments, and compares each join with one encoding.

For each signal, quality, sample rate and number of channels: the number of frames and, with a constant bit rate, of
bytes is that of one encoding; the decoded length is that of the source, to the sample; FFmpeg decodes without a
warning; and at each join, the signal-to-noise ratio is at most 0.05 dB lower (0.2 dB with hostile signals).

Two more decoders are used where they are installed. They must not complain, decode to the same length, and around each
join to the same samples: mpg123 (or the program that `--mpg123` names), and dr_mp3, which `pip install miniaudio`
brings.

By default, segments are four seconds long, because a join does not depend on their length. With `--production-length`,
they are as long as those of the service: a minute. Tracks of 15 minutes or more have twice that.
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
from ytmp3.converter.audio.segments import GRID_FRAMES, SEGMENT_FRAMES, Plan, samples_in
from ytmp3.core.recipe import Quality

SHORT_FRAMES: Final = 2 * GRID_FRAMES
"""Frames from the beginning of a segment to that of the next one, unless `--production-length` is given."""
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


class Results:
    """The results of all combinations of one sample rate and number of channels."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._combinations = 0
        self._joins = 0
        self._worst: dict[bool, float] = {}
        self.failed = 0

    def add(self, signal: str, quality: Quality, losses: list[float], problems: list[str]) -> None:
        """Count a combination, and print a line if it has failed."""
        is_hostile = SIGNALS[signal].is_hostile
        loss = max(losses, default=0.0)
        self._worst[is_hostile] = max(self._worst.get(is_hostile, loss), loss)
        self._combinations += 1
        self._joins += len(losses)
        if problems or loss > MAX_LOSS[is_hostile]:
            self.failed += 1
            found = (f"{each:+.3f} dB" for each in losses)
            print("FAILED ", ", ".join([self._form, signal, quality, *problems]), *found, flush=True)

    def summary(self) -> str:
        """Return the figures as one line."""
        kinds = {False: "ordinary", True: "hostile"}
        worst = ", ".join(f"{kinds[kind]} signals {loss:+.3f} dB" for kind, loss in sorted(self._worst.items()))
        return (
            f"{self._form}: {self._combinations} combinations, {self._joins} joins, {self.failed} failed; "
            f"largest loss at a join: {worst}"
        )


def main() -> None:
    """Check all combinations, and end with status 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--joins", type=int, default=2, help="joins in each signal, which is as long as they need")
    parser.add_argument("--forms", nargs="*", default=[*FORMS], choices=[*FORMS])
    parser.add_argument("--qualities", nargs="*", type=Quality, default=[*Quality])
    parser.add_argument("--signals", nargs="*", default=[*SIGNALS], choices=[*SIGNALS])
    parser.add_argument("--production-length", action="store_true", help="segments as long as those of the service")
    parser.add_argument("--mpg123", default=shutil.which("mpg123"))
    options = parser.parse_args()
    plan = Plan(segment_frames=SEGMENT_FRAMES if options.production_length else SHORT_FRAMES)
    if options.mpg123 is None:
        print("NOT TESTED with mpg123, which is not installed")
    if not HAS_DR_MP3:
        print("NOT TESTED with dr_mp3: miniaudio is not installed")
    failed = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for form in options.forms:
            results = Results(form)
            combinations = [(form, signal, quality) for signal in options.signals for quality in options.qualities]
            checks = threads.map(lambda one: checked(one, plan, options.joins, options.mpg123), combinations)
            for (_, signal, quality), (losses, problems) in zip(combinations, checks, strict=True):
                results.add(signal, quality, losses, problems)
            print(results.summary(), flush=True)
            failed += results.failed
    sys.exit(bool(failed))


def checked(
    combination: tuple[str, str, Quality], plan: Plan, joins: int, mpg123: str | None
) -> tuple[list[float], list[str]]:
    """Check one combination. Returns the losses at its joins in dB, and what is wrong."""
    form_name, name, quality = combination
    form = FORMS[form_name]
    content = samples(SIGNALS[name], form, samples_in(plan.segment(joins).cut_frame + GRID_FRAMES) / form.sample_rate)
    try:
        comparison = compared(content, form, quality, plan)
        ours = decoded(comparison.joined)
        parts = [*windows(plan, form, len(ours))]
        if mpg123 is not None:
            compare_decoders("mpg123", ours, decoded_by_mpg123(mpg123, comparison.joined), parts)
        if HAS_DR_MP3:
            compare_decoders("dr_mp3", ours, decoded_by_dr_mp3(comparison.joined, form), parts)
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
    return array.array("f", (sample / 32768 for sample in rounded))


def decoded_by_dr_mp3(mp3: bytes, form: SampleForm) -> Sequence[float]:
    """Decode with dr_mp3. It has no messages: damaged sound is silence, or other samples."""
    miniaudio = importlib.import_module("miniaudio")
    sound = miniaudio.decode(mp3, miniaudio.SampleFormat.FLOAT32, nchannels=form.channels, sample_rate=form.sample_rate)
    return floats(sound.samples.tobytes())


def compare_decoders(name: str, ours: Sequence[float], theirs: Sequence[float], parts: Sequence[slice]) -> None:
    """Compare the samples of FFmpeg and of another decoder in these parts, which are around the joins."""
    assert len(theirs) == len(ours), f"{name} decodes {len(theirs)} samples, FFmpeg {len(ours)}"
    largest = max(differences(ours, theirs, parts), default=0.0)
    assert largest <= MAX_DIFFERENCE, f"{name} differs by {largest:.1f} steps"


def differences(ours: Sequence[float], theirs: Sequence[float], parts: Sequence[slice]) -> Iterator[float]:
    """Iterate over the differences in these parts, in steps of 16 bits. Louder sound than full scale is clipped."""
    for part in parts:
        for one, other in zip(ours[part], theirs[part], strict=True):
            yield 32768 * abs(max(-1.0, min(1.0, one)) - max(-1.0, min(1.0, other)))


if __name__ == "__main__":
    main()
