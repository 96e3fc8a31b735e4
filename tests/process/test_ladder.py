"""One player client that fails is not the end of a conversion: others are asked."""

import asyncio
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, spawn, video_id
from tests.stand.pipeline import RunningPipeline, running_pipeline
from ytmp3.converter.youtube.ladder import FAILURES_TO_SKIP
from ytmp3.converter.youtube.signs import Sign
from ytmp3.core.errors import ConversionError, FailureCode


async def extractions_of(own: RunningPipeline, youtube: Spawned, kind: Kind, number: int) -> int:
    """Convert a video; return how often YouTube was asked for it."""
    await own.convert(video_id(kind, number))
    return (await asyncio.to_thread(youtube.counts, video_id(kind, number))).extractions


@pytest.mark.parametrize(
    ("kind", "extractions"),
    [
        # Others are refused, or have only manifests, or only part of the bytes: no business of the first client.
        (Kind.TV_FORBIDDEN, 1),
        (Kind.HLS, 1),
        (Kind.SMALL_RANGES, 1),
        (Kind.RESET_ONCE, 1),
        # yt-dlp itself asks another client within the extraction.
        (Kind.FOR_KIDS, 1),
        # The first client cannot serve it, and the others can.
        (Kind.VISIONOS_FORBIDDEN, 2),
        # Each link serves a third. The third client has no link without a token, so the first one is asked again.
        (Kind.FORBIDDEN_AFTER_PART, 4),
    ],
)
async def test_only_what_the_first_client_cannot_serve_is_asked_of_others(
    kind: Kind, extractions: int, youtube: Spawned, tmp_path: Path
) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        assert await extractions_of(own, youtube, kind, 1) == extractions


async def test_a_client_whose_media_are_refused_is_left_out_of_its_group(youtube: Spawned, tmp_path: Path) -> None:
    """The operator has named one group; yt-dlp would take the links of its first client again and again."""
    async with running_pipeline(youtube, tmp_path, clients=(("tv", "visionos", "web"),)) as own:
        for number in range(10, 10 + FAILURES_TO_SKIP):
            assert await extractions_of(own, youtube, Kind.TV_FORBIDDEN, number) == 2
        # The other conversions need not learn it anew.
        assert await extractions_of(own, youtube, Kind.TV_FORBIDDEN, 20) == 1


async def test_the_first_clients_are_asked_again_after_all_were_refused(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, clients=(("visionos",),)) as own:
        assert await extractions_of(own, youtube, Kind.FORBIDDEN_AFTER_PART, 2) == 3
        assert await extractions_of(own, youtube, Kind.FORBIDDEN_ONCE, 2) == 2
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.FORBIDDEN, 2))
        assert failure.value.code is FailureCode.UPSTREAM_ERROR
    assert (await asyncio.to_thread(youtube.counts, video_id(Kind.FORBIDDEN, 2))).extractions == 2


async def test_a_bot_check_hides_no_broken_solver(tmp_path: Path) -> None:
    """One client is refused by the address, and the others have only links that cannot be solved."""
    with spawn(tmp_path, prepare=[Kind.SHORT]) as youtube:
        youtube.switch(clients="real", players=["unsolvable:0"], refused_clients={"VISIONOS": "bot"})
        async with running_pipeline(youtube, tmp_path) as own:
            with pytest.raises(ConversionError) as failure:
                await own.convert(video_id(Kind.SHORT))
            assert failure.value.code is FailureCode.BOT_CHECK
            assert own.pipeline.signs()[Sign.CHALLENGE_FAILED]
