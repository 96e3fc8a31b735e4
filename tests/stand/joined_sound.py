"""Generated signals, encoded by one encoder and in joined segments, and the quality of both around each join."""

import array
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import imageio_ffmpeg
from msgspec import Struct

from ytmp3.converter.audio.ffmpeg import FILE, encode_arguments, segment_arguments
from ytmp3.converter.audio.joined_track import JoinedTrack
from ytmp3.converter.audio.samples import SampleForm
from ytmp3.converter.audio.segments import FRAME_SAMPLES, Plan
from ytmp3.core.recipe import Quality, Recipe

FFMPEG: Final[str] = imageio_ffmpeg.get_ffmpeg_exe()
WINDOW_FRAMES: Final = 24
"""Frames that are compared at each join: from four before the cut on, so that they include every possible join."""
FLOOR: Final = 1 / 32768
"""Added to every error, as a fraction of the full scale: a step of 16 bits. Most players round to such steps."""


class Signal(Struct, frozen=True):
    """A sound of two channels."""

    left: str
    """An expression of FFmpeg's `aevalsrc`: the sample at the time `t`."""
    right: str = ""
    """Empty: the same as `left`, half as loud."""
    is_hostile: bool = False
    """Whether it changes faster than an encoder can follow, so that two good encodings differ more."""


_NOISE = "(2*random(0)-1)"
_TUNE = "(sin(2*PI*220*t)*exp(-3*mod(t,0.5))+sin(2*PI*277.2*t)*exp(-4*mod(t,0.25))+sin(2*PI*329.6*t)*exp(-2*mod(t,1)))"
_VOICE = "(mod(t*115+2*sin(2*PI*t),1)-0.5)"
SIGNALS: Final = {
    "arpeggio": Signal(f"0.25*{_TUNE}"),
    "band": Signal(f"0.2*{_TUNE}+0.1*{_NOISE}*exp(-15*mod(t,0.33))+0.2*sin(2*PI*55*t)", f"0.2*{_TUNE}+0.02*{_NOISE}"),
    "strings": Signal("0.1*(mod(t*196,1)+mod(t*246.9,1)+mod(t*293.7+0.1*sin(2*PI*5*t),1)-1.5)"),
    "organ": Signal("0.1*(sin(2*PI*110*t)+sin(2*PI*220*t)+sin(2*PI*440*t)+sin(2*PI*880*t)+sin(2*PI*1760*t))"),
    "drums": Signal(f"0.6*{_NOISE}*exp(-20*mod(t,0.4))+0.4*sin(2*PI*60*t)*exp(-8*mod(t,0.8))"),
    "speech": Signal(f"0.5*{_VOICE}*abs(sin(2*PI*2.3*t))*gt(sin(2*PI*0.7*t),-0.4)"),
    "whisper": Signal(f"0.2*{_NOISE}*pow(sin(2*PI*2*t),2)*gt(sin(2*PI*0.6*t),-0.5)"),
    "two voices": Signal(f"0.4*{_VOICE}*gt(sin(2*PI*0.9*t),0)", f"0.4*{_NOISE}*lt(sin(2*PI*0.9*t),0)"),
    "silence": Signal("0", "0"),
    "nearly silence": Signal(f"0.0001*{_NOISE}"),
    "fade in and out": Signal(f"(0.2*{_TUNE}+0.05*{_NOISE})*pow(sin(PI*t/4),2)"),
    "fade": Signal(f"0.3*{_TUNE}*exp(-1.5*mod(t,3))"),
    "sweep": Signal("0.5*sin(2*PI*(50*t+700*t*t))"),
    "fast sweeps": Signal("0.4*sin(2*PI*8000*pow(mod(t,1),2))"),
    "tone": Signal("0.3*sin(2*PI*997*t)"),
    "high tone": Signal("0.3*sin(2*PI*10500*t)"),
    "low tone": Signal("0.6*sin(2*PI*40*t)"),
    "white noise": Signal(f"0.3*{_NOISE}"),
    "wide noise": Signal(f"0.2*{_NOISE}", f"0.2*{_NOISE}"),
    "one side": Signal(f"0.3*{_TUNE}", "0"),
    "opposite phases": Signal(f"0.2*{_TUNE}", f"-0.2*{_TUNE}"),
    "full scale tone": Signal("sin(2*PI*441*t)", "sin(2*PI*441*t)"),
    "full scale noise": Signal(_NOISE, _NOISE, is_hostile=True),
    "full scale square": Signal("sgn(sin(2*PI*100*t))", "sgn(sin(2*PI*101*t))", is_hostile=True),
    "clicks": Signal("lt(mod(t,0.1),0.0001)", is_hostile=True),
    "castanets": Signal(f"0.9*{_NOISE}*exp(-60*mod(t,0.17))", is_hostile=True),
    "sound and silence": Signal(f"0.8*{_NOISE}*lt(mod(t,0.5),0.21)", is_hostile=True),
    "loud and quiet": Signal(f"{_NOISE}*(0.001+0.9*lt(mod(t,0.3),0.06))", f"{_TUNE}*0.3", is_hostile=True),
}


def samples(signal: Signal, form: SampleForm, seconds: float) -> bytes:
    """Return the samples of a signal."""
    channels = [signal.left, signal.right or f"0.5*({signal.left})"][: form.channels]
    source = f"aevalsrc='{'|'.join(channels)}':s={form.sample_rate}:d={seconds}"
    return _run([FFMPEG, "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-f", "f32le", "-"])


def encoded(content: bytes, form: SampleForm, quality: Quality) -> bytes:
    """Encode samples with one encoder, as the service does."""
    layout = "mono" if form.channels == 1 else "stereo"
    command = encode_arguments(FFMPEG, source=FILE, demuxer="f32le", recipe=Recipe(quality=quality))
    position = command.index("-i")
    command[position:position] = ["-ar", str(form.sample_rate), "-ch_layout", layout]
    return _written(command, content)


def joined(content: bytes, form: SampleForm, quality: Quality, plan: Plan) -> bytes:
    """Encode the segments of these samples, and join them, as the service does."""
    step, count = FRAME_SAMPLES * form.step_bytes, plan.count(len(content) // form.step_bytes)
    track, output = JoinedTrack(plan, is_variable=quality.startswith("V")), b""
    for segment in map(plan.segment, range(count)):
        if segment.number:
            output += track.next_segment()
        end = None if segment.number == count - 1 else segment.end_frame * step
        command = segment_arguments(FFMPEG, source=FILE, form=form, quality=quality, is_first=not segment.number)
        output += track.add(_written(command, content[segment.first_frame * step : end]))
    last, first_frame = track.finish(len(content) // form.step_bytes)
    return first_frame + (output + last)[len(first_frame) :]


def decoded(mp3: bytes) -> "array.array[float]":
    """Decode with FFmpeg, which must not complain."""
    command = [FFMPEG, "-nostdin", "-v", "warning", "-f", "mp3", "-i", "-", "-f", "f32le", "-"]
    process = subprocess.run(command, input=mp3, capture_output=True, check=True, timeout=600)
    assert process.stderr == b"", process.stderr
    return floats(process.stdout)


def floats(content: bytes) -> "array.array[float]":
    found = array.array("f")
    found.frombytes(content)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def windows(plan: Plan, form: SampleForm, size: int) -> Iterator[slice]:
    """Iterate over the samples around each join of a sound with so many samples."""
    for segment in map(plan.segment, range(1, plan.count(size // form.channels))):
        first = segment.cut_frame - 4
        bounds = (first * FRAME_SAMPLES * form.channels, (first + WINDOW_FRAMES) * FRAME_SAMPLES * form.channels)
        yield slice(*bounds)


def error(source: Sequence[float], sound: Sequence[float]) -> float:
    """Return the mean square of the difference to the source, and the floor."""
    return sum((one - other) ** 2 for one, other in zip(source, sound, strict=True)) / len(source) + FLOOR**2


class Comparison(Struct, frozen=True):
    """Joined segments against one encoding of the same samples."""

    joined: bytes
    """The MP3 of joined segments."""
    losses: list[float]
    """For each join, by how many dB the signal-to-noise ratio around it is worse than that of one encoding."""


def compared(content: bytes, form: SampleForm, quality: Quality, plan: Plan) -> Comparison:
    """Encode samples in both ways. Also checks the number of frames and bytes, the length, and the first frame."""
    one, other = encoded(content, form, quality), joined(content, form, quality, plan)
    source, sound, joined_sound = floats(content), decoded(one), decoded(other)
    assert len(source) == len(sound) == len(joined_sound), "the length is exact to the sample"
    if quality.startswith("V"):
        assert len(other) <= len(one) * 1.002 + 2000, (len(one), len(other))
    else:
        assert len(one) == len(other)
    return Comparison(
        other,
        [
            10 * math.log10(error(source[part], joined_sound[part]) / error(source[part], sound[part]))
            for part in windows(plan, form, len(source))
        ],
    )


def _written(command: Sequence[str], content: bytes) -> bytes:
    """Run FFmpeg as the service does: the samples are a file on descriptor 0, and descriptor 3 is its output."""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "source"), Path(name, "target")
        source.write_bytes(content)
        with source.open("rb") as read:
            shell = ["sh", "-c", 'exec "$@" 3<>"$0"', str(target), *command]
            subprocess.run(shell, check=True, capture_output=True, stdin=read, timeout=600)
        return target.read_bytes()


def _run(command: Sequence[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=600).stdout
