"""Which sound of a video is converted, measured in the MP3: the fake YouTube's tracks differ in their tone."""

import array
import asyncio
import itertools
import subprocess
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.fake_youtube.behaviour import Media
from tests.fake_youtube.media import TONES
from tests.stand.pipeline import FFMPEG, running_pipeline
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.language import Language
from ytmp3.core.recipe import Format

ORIGINAL_HERTZ = 440
"""The other tracks have 660 Hz and more."""
RATE = 8000

ORIGINALS = [
    Kind.DUBBED,
    Kind.DUBBED_BETTER,
    Kind.DUBBED_ALIKE,
    Kind.DESCRIPTIVE,
    Kind.LEVELLED,
    Kind.SURROUND,
    Kind.AC3,
    Kind.EAC3,
    Kind.AMBISONIC,
]
SECONDS = {
    Kind.TRACK_SHORTER: 10.0,
    Kind.HLS: 30.0,
    Kind.HLS_PACKED: 30.0,
    Kind.MUXED_AND_HLS: 4.0,
    Kind.DASH: 30.0,
    Kind.WAS_LIVE: 30.0,
    Kind.POST_LIVE: 30.0,
    Kind.POST_LIVE_SEGMENTS: 30.0,
}


def hertz(path: Path) -> float:
    """Return the frequency of a tone, by counting where it crosses zero in its middle second."""
    command = [FFMPEG, "-v", "error", "-ss", "1", "-t", "1", "-i", str(path), "-ac", "1", "-ar", str(RATE)]
    pcm = subprocess.run([*command, "-f", "s16le", "-"], capture_output=True, check=True).stdout
    samples = array.array("h", pcm)
    crossings = sum(before < 0 <= after for before, after in itertools.pairwise(samples))
    return crossings * RATE / len(samples)


async def test_the_original_stereo_track_is_converted(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        for kind in ORIGINALS:
            track = await own.convert(video_id(kind))
            assert await asyncio.to_thread(hertz, track.path) == pytest.approx(ORIGINAL_HERTZ, abs=60), kind


async def test_the_track_in_the_requested_language_is_converted_or_none(youtube: Spawned, tmp_path: Path) -> None:
    german, english, french = map(Language, ("de", "en", "fr"))
    async with running_pipeline(youtube, tmp_path) as own:
        for kind, format_, language, media in (
            (Kind.DUBBED_ALIKE, Format.MP3, german, Media.DUBBED_OPUS),
            (Kind.DUBBED_ALIKE, Format.M4A, german, Media.DUBBED_AAC),
            (Kind.DUBBED_BETTER, Format.OPUS, german, Media.DUBBED_OPUS),
            (Kind.DESCRIPTIVE, Format.MP3, english, Media.ORIGINAL_OPUS),
        ):
            track = await own.convert(video_id(kind), format_=format_, language=language)
            assert (track.metadata.audio_language or "").startswith(language), kind
            assert await asyncio.to_thread(hertz, track.path) == pytest.approx(TONES[media], abs=60), kind
        for kind, format_, language, code in (
            (Kind.DUBBED_ALIKE, Format.MP3, french, FailureCode.LANGUAGE_UNAVAILABLE),
            (Kind.SHORT, Format.OPUS, english, FailureCode.LANGUAGE_UNAVAILABLE),
            (Kind.DUBBED_BETTER, Format.M4A, german, FailureCode.FORMAT_UNAVAILABLE),
        ):
            with pytest.raises(ConversionError) as failure:
                await own.convert(video_id(kind), format_=format_, language=language)
            assert failure.value.code is code, kind


async def test_recordings_and_short_tracks_are_converted_as_a_whole(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        lengths = {kind: (await own.convert(video_id(kind))).duration_seconds for kind in SECONDS}
    assert lengths == pytest.approx(SECONDS, abs=0.2)


async def test_another_format_is_taken_where_one_cannot_be_decoded(youtube: Spawned, tmp_path: Path) -> None:
    """The encoder is a script that does not accept WebM, so the Opus of the first try cannot be decoded."""
    encoder = tmp_path / "ffmpeg"
    encoder.write_text(
        "#!/bin/sh\n"
        'case " $* " in *" matroska "*) echo "Invalid data found when processing input" >&2; exit 1;; esac\n'
        f'exec "{FFMPEG}" "$@"\n'
    )
    encoder.chmod(0o755)
    # No other test asks for this id: the fake YouTube counts the requests of all tests.
    only_webm = video_id(Kind.SHORT, 7041)
    async with running_pipeline(youtube, tmp_path, ffmpeg=encoder) as own:
        track = await own.convert(video_id(Kind.DUBBED_ALIKE))
        assert await asyncio.to_thread(hertz, track.path) == pytest.approx(ORIGINAL_HERTZ, abs=60)
        with pytest.raises(ConversionError) as failure:
            await own.convert(only_webm)
        assert failure.value.code is FailureCode.MEDIA_INVALID
    assert (await asyncio.to_thread(youtube.counts, only_webm)).extractions == 1


async def test_the_wait_for_an_advertisement_is_no_stall(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, idle_seconds=10.0) as own:
        track = await own.convert(video_id(Kind.AD, 20))
    assert track.duration_seconds > 1
