"""Formats that are copied: the sound of the track is YouTube's own, packet by packet."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.hearing import decoded_seconds, tone_hertz
from tests.stand.pipeline import FFMPEG, running_pipeline
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.recipe import Format, Quality

SECONDS = {
    (Kind.SHORT, Format.OPUS): 4.0,
    (Kind.AMBISONIC, Format.OPUS): 4.0,
    (Kind.CUT_ONCE, Format.OPUS): 30.0,
    (Kind.M4A, Format.M4A): 4.0,
    (Kind.INDEX_AT_END, Format.M4A): 4.0,
    (Kind.MUXED, Format.M4A): 4.0,
    (Kind.HLS, Format.M4A): 30.0,
    (Kind.HLS_PACKED, Format.M4A): 30.0,
}
"""Videos in all containers that YouTube has, with the length of their sound."""


def packets(path: Path, *options: str) -> str:
    """Return the hash of all packets of sound, as ffmpeg reads them."""
    command = [FFMPEG, "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a:0", "-c", "copy", *options]
    return subprocess.run([*command, "-f", "md5", "-"], capture_output=True, text=True, check=True).stdout


def described(path: Path) -> str:
    """Return what ffmpeg says about the streams and tags of a file."""
    command = [FFMPEG, "-nostdin", "-hide_banner", "-i", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


async def test_the_packets_are_those_that_youtube_sent(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        tracks = await asyncio.gather(*(own.convert(video_id(kind, 2), format_=format_) for kind, format_ in SECONDS))
        for number, ((kind, format_), seconds) in enumerate(SECONDS.items(), 1):
            track = tracks[number - 1]
            assert track.path.suffix == f".{format_}", kind
            assert track.duration_seconds == pytest.approx(seconds, abs=0.1), kind
            assert await asyncio.to_thread(decoded_seconds, track.path) == pytest.approx(seconds, abs=0.1), kind
            if kind not in {Kind.HLS, Kind.HLS_PACKED, Kind.CUT_ONCE}:
                # A segment of HLS has a header in front of each frame, which an MP4 has once for all of them.
                spool = own.folder / f"scratch-{number}" / "spool-1"
                assert await asyncio.to_thread(packets, track.path) == await asyncio.to_thread(packets, spool), kind
        await own.until_no_child_is_left()


@pytest.mark.parametrize(("kind", "format_"), [(Kind.SHORT, Format.OPUS), (Kind.M4A, Format.M4A)])
async def test_a_player_finds_title_artist_link_and_cover(
    youtube: Spawned, tmp_path: Path, kind: Kind, format_: Format
) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        track = await own.convert(video_id(kind), format_=format_)
        found = await asyncio.to_thread(described, track.path)
    for text in (track.metadata.title, track.metadata.uploader, f"watch?v={video_id(kind)}", "mjpeg", "attached pic"):
        assert text is not None
        assert text in found
    content = track.path.read_bytes()
    if format_ is Format.M4A:
        assert content.index(b"moov") < content.index(b"mdat")
    else:
        assert content.startswith(b"OggS")


@pytest.mark.parametrize(
    ("kind", "format_"),
    [
        (Kind.SHORT, Format.M4A),
        (Kind.M4A, Format.OPUS),
        (Kind.MP3, Format.M4A),
        (Kind.MP3, Format.OPUS),
        # The original has another codec: the dubbed track is not taken for it.
        (Kind.DUBBED, Format.OPUS),
    ],
)
async def test_a_codec_that_youtube_does_not_offer_is_an_error_and_never_encoded(
    youtube: Spawned, tmp_path: Path, kind: Kind, format_: Format
) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(kind), format_=format_)
        assert failure.value.code is FailureCode.FORMAT_UNAVAILABLE
        await own.until_no_child_is_left()


async def test_the_codec_decides_which_of_the_original_tracks_is_copied(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        for format_ in (Format.M4A, Format.OPUS):
            track = await own.convert(video_id(Kind.DUBBED_ALIKE), format_=format_)
            assert await asyncio.to_thread(tone_hertz, track.path) == 440
            assert format_.name.replace("M4A", "AAC").lower() in await asyncio.to_thread(described, track.path)


@pytest.mark.parametrize(
    ("kind", "format_", "code"),
    [
        (Kind.HALF, Format.OPUS, FailureCode.OUTPUT_TRUNCATED),
        (Kind.HALF_M4A, Format.M4A, FailureCode.OUTPUT_TRUNCATED),
        (Kind.OVERSTATED, Format.OPUS, FailureCode.OUTPUT_TRUNCATED),
        (Kind.UNDERSTATED, Format.OPUS, FailureCode.OUTPUT_TRUNCATED),
        (Kind.RANDOM, Format.OPUS, FailureCode.MEDIA_INVALID),
        (Kind.PRIVATE, Format.OPUS, FailureCode.PRIVATE),
    ],
)
async def test_a_copy_fails_as_an_encoding_does(
    youtube: Spawned, tmp_path: Path, kind: Kind, format_: Format, code: FailureCode
) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(kind), format_=format_)
        assert failure.value.code is code


async def test_the_same_video_has_the_same_copy_each_time(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        for kind, format_ in ((Kind.SHORT, Format.OPUS), (Kind.M4A, Format.M4A)):
            # A copy has no quality, so the one that is given changes nothing.
            hashes = {(await own.convert(video_id(kind), quality, format_)).sha256 for quality in list(Quality)[:2]}
            assert len(hashes) == 1
