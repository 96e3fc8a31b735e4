"""One player client that fails is not the end of a conversion: others are asked."""

import asyncio
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import running_pipeline

CURED_BY_OTHER_CLIENTS = [
    Kind.VISIONOS_FORBIDDEN,
    Kind.TV_FORBIDDEN,
    Kind.TV_FORBIDDEN_LATE,
    Kind.SABR_SOME,
    Kind.DRM_TV,
    Kind.UNSOLVABLE_TV,
    Kind.REFUSED_ONCE,
    Kind.FORBIDDEN_AFTER_PART,
]


async def test_what_fails_for_one_client_is_asked_of_others(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        ends = await asyncio.gather(
            *(own.convert(video_id(kind)) for kind in CURED_BY_OTHER_CLIENTS), return_exceptions=True
        )
    failed = {kind: end for kind, end in zip(CURED_BY_OTHER_CLIENTS, ends, strict=True) if isinstance(end, Exception)}
    assert not failed


async def test_a_client_whose_links_work_needs_one_extraction(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        await own.convert(video_id(Kind.TV_FORBIDDEN, 1))
    assert (await asyncio.to_thread(youtube.counts, video_id(Kind.TV_FORBIDDEN, 1))).extractions == 1
