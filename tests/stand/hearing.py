"""Measures the sound of a file, decoded by ffmpeg: its length, and the pitch of a pure tone."""

import array
import itertools
import subprocess
from pathlib import Path
from typing import Final

import imageio_ffmpeg

_RATE: Final = 8000


def _samples(path: Path) -> "array.array[int]":
    """Decode one channel to 16-bit samples at 8 kHz."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path), "-vn"]
    # A filter takes the first channel: ffmpeg cannot mix ambisonic sound down.
    command += ["-af", "pan=mono|c0=c0", "-ar", str(_RATE), "-f", "s16le", "-"]
    samples = array.array("h")
    samples.frombytes(subprocess.run(command, check=True, capture_output=True, timeout=300).stdout)
    return samples


def decoded_seconds(path: Path) -> float:
    return len(_samples(path)) / _RATE


def tone_hertz(path: Path) -> int:
    """Return the frequency of a pure tone, to 10 Hz: half of the sign changes in the third second."""
    samples = _samples(path)[2 * _RATE : 3 * _RATE]
    changes = sum((one < 0) != (other < 0) for one, other in itertools.pairwise(samples))
    return round(changes / 20) * 10
