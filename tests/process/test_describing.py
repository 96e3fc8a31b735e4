"""What the real yt-dlp finds out about videos of the fake YouTube, in a forked child that downloads nothing."""

import asyncio
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import RunningPipeline, running_pipeline
from ytmp3.core.description import Description
from ytmp3.core.errors import ConversionError
from ytmp3.core.ids import ClientId, VideoId


async def described(own: RunningPipeline, kind: Kind) -> Description | str:
    scratch = own.folder / f"describe-{kind}"
    scratch.mkdir()
    try:
        return await own.pipeline.describe(VideoId(video_id(kind)), ClientId("addr:192.0.2.1"), scratch)
    except ConversionError as error:
        return error.code.value
    finally:
        assert not list(scratch.iterdir())


async def test_a_video_is_described_or_fails_as_its_conversion_would(youtube: Spawned, tmp_path: Path) -> None:
    kinds = (Kind.DUBBED, Kind.SHORT, Kind.MUXED, Kind.PRIVATE, Kind.LIVE, Kind.LONG)
    async with running_pipeline(youtube, tmp_path) as own:
        found = dict(zip(kinds, await asyncio.gather(*(described(own, kind) for kind in kinds)), strict=True))
        await own.until_no_child_is_left()
    assert [found.pop(kind) for kind in kinds[3:]] == ["private", "live", "too_long"]
    tracks = {}
    for kind, each in found.items():
        assert isinstance(each, Description)
        assert each.metadata.duration_seconds
        assert all(copy.bitrate_kbps for copy in each.original.copies)
        tracks[kind] = [
            (track.language, track.is_original, [copy.format.value for copy in track.copies])
            for track in (each.original, *each.languages)
        ]
    assert tracks[Kind.DUBBED] == [
        ("en-US", True, ["m4a"]),
        ("en-US", True, ["m4a"]),
        ("de-DE", False, ["m4a", "opus"]),
    ]
    assert tracks[Kind.SHORT] == [(None, True, ["opus"])]
    assert tracks[Kind.MUXED] == [(None, True, ["m4a"])]
    dubbed = found[Kind.DUBBED]
    assert isinstance(dubbed, Description)
    assert dubbed.original.copies[0].size_bytes
