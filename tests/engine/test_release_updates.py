"""What updates of yt-dlp get from the engine: places in the budgets, and whether the release in use is broken."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.rig import engine, video
from tests.virtual_time import settled
from ytmp3.core.breaker import ENDS_TO_OPEN
from ytmp3.core.errors import FailureCode, Fault
from ytmp3.core.identities import UNREACHED_TO_COOL, Budget
from ytmp3.core.ids import VideoId
from ytmp3.engine.release_updates import RENEW_SECONDS, TURN_SECONDS, UpstreamForUpdates

VIDEO = VideoId("aqz-KE-bpKQ")


async def test_a_trial_waits_for_a_place_in_the_hourly_budget_and_uses_it(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        identities = now.parts.upstream.identities
        identities.use([Budget(name="only", videos_per_hour=60)])
        updates = UpstreamForUpdates(now.parts.upstream, now.records.values)
        loop = asyncio.get_running_loop()
        begun_at, names, times = loop.time(), [], []
        for _ in range(7):
            async with updates.passage(VIDEO) as passage:
                passage.begin()
                names.append(passage.name)
                times.append(loop.time() - begun_at)
        await settled()
        assert names == ["only"] * 7
        # A burst of five, then one each minute at most.
        assert times[4] < 60.0 <= times[5]
        assert times[6] - times[5] >= 60.0
        (view,) = identities.views()
        assert (view.cause, view.tokens < 1.0) == (None, True)


async def test_a_trial_that_ends_before_its_extraction_gives_its_place_back(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        identities = now.parts.upstream.identities
        identities.use([Budget(name="only", videos_per_hour=60)])
        updates = UpstreamForUpdates(now.parts.upstream, now.records.values)
        begun_at = asyncio.get_running_loop().time()
        for _ in range(10):
            async with updates.passage(VIDEO):
                pass  # no slot for extractions became free in time
            await settled()
        assert asyncio.get_running_loop().time() - begun_at < 60.0


async def test_a_served_trial_video_ends_the_pause_of_its_identity(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        identities = now.parts.upstream.identities
        identities.use([Budget(name="only", videos_per_hour=60)])
        updates = UpstreamForUpdates(now.parts.upstream, now.records.values)
        for number in range(UNREACHED_TO_COOL):
            grant = await identities.take(VideoId(video(number)))
            assert grant is not None
            grant.begin()
            await grant.failed(VideoId(video(number)), Fault.NETWORK)
        assert identities.cause is Fault.NETWORK
        async with updates.passage(VIDEO) as passage:
            passage.begin()
            passage.served(VIDEO)
        await settled()
        assert identities.cause is None


async def test_one_instance_at_a_time_tries_a_release_and_keeps_its_turn(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first, second = (UpstreamForUpdates(now.parts.upstream, now.records.values) for _ in range(2))
        async with first.turn() as of_first:
            for _ in range(10):
                async with second.turn() as of_second:
                    assert (of_first, f"runs out in {TURN_SECONDS:.0f} s" in of_second) == ("", True)
                # Longer than a turn that is not renewed, in total.
                now.clock.advance(RENEW_SECONDS)
                await asyncio.sleep(RENEW_SECONDS)
                await settled()
        async with second.turn() as of_second:
            assert of_second == ""


async def test_the_turn_of_a_killed_instance_ends_by_itself(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first, second = (UpstreamForUpdates(now.parts.upstream, now.records.values) for _ in range(2))
        # An instance that is killed gives nothing back, and renews nothing.
        killed = first.turn()
        assert await killed.__aenter__() == ""
        next(task for task in asyncio.all_tasks() if task.get_name() == "renew-update-turn").cancel()
        now.clock.advance(TURN_SECONDS - 1)
        async with second.turn() as of_second:
            assert "runs out in 1 s" in of_second
        now.clock.advance(2)
        async with second.turn() as of_second:
            assert of_second == ""
            # The first one is late, and ends nobody's turn but its own.
            await killed.__aexit__(None, None, None)
            async with first.turn() as of_first:
                assert "another process" in of_first


@pytest.mark.parametrize(
    ("code", "is_broken"),
    [
        (FailureCode.EXTRACTOR_BROKEN, True),
        (FailureCode.UPSTREAM_ERROR, True),
        (FailureCode.UPSTREAM_UNREACHABLE, False),
        (FailureCode.BOT_CHECK, False),
    ],
)
async def test_only_a_pause_because_of_the_release_or_youtube_speeds_updates_up(
    tmp_path: Path, code: FailureCode, *, is_broken: bool
) -> None:
    async with engine(tmp_path, workers=20, queue_capacity=200) as now:
        updates = UpstreamForUpdates(now.parts.upstream, now.records.values)
        assert not updates.is_broken()
        for number in range(2 * ENDS_TO_OPEN):
            now.converter.failing[video(number)] = code
            await now.submit(video(number))
        await asyncio.sleep(60.0)
        assert now.parts.upstream.cause is not None
        assert updates.is_broken() is is_broken
