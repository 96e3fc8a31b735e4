"""Loudness: measured in the encoder's own run, written into tags, or brought to a target without encoding again."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import mutagen
import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import FFMPEG, fake_encoder, running_pipeline
from ytmp3.converter.audio.gain import with_gain
from ytmp3.converter.audio.mp3 import sound_of, walk
from ytmp3.core.cut import Cut
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.loudness import STEP_DB, LoudnessMode
from ytmp3.core.recipe import Format, Quality

TAGS = LoudnessMode.TAGS


def measured(path: Path) -> tuple[float, float]:
    """Return the loudness and the true peak of a file, as a run of ffmpeg that does nothing else measures them."""
    command = [FFMPEG, "-nostdin", "-hide_banner", "-i", str(path), "-map", "0:a:0", "-af", "ebur128=peak=true"]
    run = subprocess.run([*command, "-f", "null", "-"], capture_output=True, text=True, check=True, timeout=300)
    summary = run.stderr[run.stderr.rindex("Summary:") :]
    loudness, peak = (re.search(pattern, summary) for pattern in (r"I:\s+(\S+) LUFS", r"Peak:\s+(\S+) dBFS"))
    assert loudness is not None
    assert peak is not None
    return float(loudness[1]), float(peak[1])


def tag(path: Path, name: str) -> str:
    """Return the value of a tag, as another program reads it; empty if there is none."""
    tags: Any = mutagen.File(path).tags
    value = tags.get(name, "")
    value = value[0] if isinstance(value, list) else value
    return value.decode() if isinstance(value, bytes) else str(value)


def sound(path: Path) -> bytes:
    """Return the frames of an MP3."""
    content = path.read_bytes()
    start, end = sound_of(content)
    return content[start:end]


async def test_measuring_changes_no_sound_and_its_result_is_in_the_tags(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        plain, tagged, opus, m4a, part = await asyncio.gather(
            own.convert(video_id(Kind.SHORT)),
            own.convert(video_id(Kind.SHORT), loudness=TAGS),
            own.convert(video_id(Kind.SHORT), format_=Format.OPUS, loudness=TAGS),
            own.convert(video_id(Kind.M4A), format_=Format.M4A, loudness=TAGS),
            own.convert(video_id(Kind.SHORT), cut=Cut(start_ms=500, end_ms=2500), loudness=TAGS),
        )
        await own.until_no_child_is_left()
    assert plain.loudness_lufs is None
    assert sound(plain.path) == sound(tagged.path)
    assert not tag(plain.path, "TXXX:REPLAYGAIN_TRACK_GAIN")
    shown = []
    for track in (tagged, opus, m4a, part):
        assert track.loudness_lufs is not None
        assert track.loudness_lufs == pytest.approx((await asyncio.to_thread(measured, track.path))[0], abs=0.2)
        shown.append(track.loudness_lufs)
    assert part.duration_seconds == pytest.approx(2.0, abs=0.02)
    _, peak = await asyncio.to_thread(measured, tagged.path)
    assert float(tag(tagged.path, "TXXX:REPLAYGAIN_TRACK_GAIN").removesuffix(" dB")) == pytest.approx(
        -18 - shown[0], abs=0.06
    )
    assert float(tag(tagged.path, "TXXX:REPLAYGAIN_TRACK_PEAK")) == pytest.approx(10 ** (peak / 20), rel=0.1)
    assert int(tag(opus.path, "R128_TRACK_GAIN")) == pytest.approx(256 * (-23 - shown[1]), abs=15)
    of_itunes = tag(m4a.path, "----:com.apple.iTunes:replaygain_track_gain")
    assert float(of_itunes.removesuffix(" dB")) == pytest.approx(-18 - shown[2], abs=0.06)


async def test_a_target_changes_the_gain_of_each_frame_and_nothing_else(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        tagged, quiet, loud = await asyncio.gather(
            *(own.convert(video_id(Kind.SHORT), Quality.K192, loudness=loudness) for loudness in (TAGS, -29.0, -5.0))
        )
    before, peak = await asyncio.to_thread(measured, tagged.path)
    for track, target in ((quiet, -29.0), (loud, -5.0)):
        undo = tag(track.path, "TXXX:MP3GAIN_UNDO")
        steps = -int(undo.split(",", maxsplit=1)[0])
        assert b"".join(with_gain(sound(track.path), -steps)) == sound(tagged.path)
        after, _ = await asyncio.to_thread(measured, track.path)
        assert after - before == pytest.approx(STEP_DB * steps, abs=0.2)
        assert track.loudness_lufs == pytest.approx(after, abs=0.2)
        # Raised to the target, or by less than a step below the ceiling of -1 dBTP.
        assert after == pytest.approx(target, abs=0.95) or -2.7 < peak + STEP_DB * steps <= -0.8
        assert track.size_bytes - tagged.size_bytes < 100
    assert quiet.loudness_lufs is not None
    assert quiet.loudness_lufs == pytest.approx(-29, abs=0.8)


def test_the_gain_can_be_changed_in_every_kind_of_stream_and_back(tmp_path: Path) -> None:
    for number, (rate, channels, quality) in enumerate(
        ((44_100, 2, "-b:a 128k"), (48_000, 1, "-q:a 5"), (22_050, 2, "-b:a 64k"), (11_025, 1, "-b:a 16k"))
    ):
        path = tmp_path / f"{number}.mp3"
        source = f"anoisesrc=r={rate}:d=2:a=0.05:seed=1:c=pink"
        command = [FFMPEG, "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-ac", str(channels)]
        subprocess.run([*command, *quality.split(), "-id3v2_version", "0", str(path)], check=True, timeout=300)
        content, raised = path.read_bytes(), tmp_path / f"raised-{number}.mp3"
        raised.write_bytes(b"".join(with_gain(content, 4)))
        assert walk(raised.read_bytes()) == walk(content)
        assert b"".join(with_gain(raised.read_bytes(), -4)) == content
        assert measured(raised)[0] - measured(path)[0] == pytest.approx(6.0, abs=0.15)


async def test_an_encoder_that_reports_no_loudness_is_a_fault_of_the_tools(youtube: Spawned, tmp_path: Path) -> None:
    encoder = fake_encoder(tmp_path, "cat > /dev/null; echo MP3 >&3")
    async with running_pipeline(youtube, tmp_path, ffmpeg=encoder) as own:
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.SHORT), loudness=TAGS)
        assert failure.value.code is FailureCode.TOOL_MISSING
