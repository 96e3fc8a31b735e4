"""Descriptions of videos, for `POST /probe`: kept, shared, bounded, and withheld while conversions pause."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.rig import OTHER, SOMEONE, Rig, engine, link, video
from tests.fake_playlists import DESCRIPTION
from ytmp3.core.description import ProbeFailed, ProbePending, ProbeRefused
from ytmp3.core.errors import ClientQuota, ConversionError, FailureCode, QueueFull, UpstreamBlocked
from ytmp3.core.identities import Budget
from ytmp3.core.ids import ClientId
from ytmp3.engine import events
from ytmp3.engine.descriptions import KEPT_FAILURE_SECONDS, KEPT_SECONDS, MAX_KEPT, MAX_OPEN

VIDEO = video(1)


def outcomes(now: Rig) -> list[tuple[str, str | None]]:
    return [(each.outcome, each.code) for each in now.happened if isinstance(each, events.ProbeAnswered)]


async def test_a_description_is_asked_for_once_in_ten_minutes(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        of = now.parts.descriptions.of
        shared = await asyncio.gather(of(link(VIDEO), SOMEONE.owner), of(f"{VIDEO} ", OTHER.owner))
        assert list(shared) == [(VIDEO, DESCRIPTION)] * 2
        await asyncio.sleep(KEPT_SECONDS - 1)
        await of(link(VIDEO), OTHER.owner)
        assert now.converter.described == [VIDEO]
        await asyncio.sleep(1)
        await of(link(VIDEO), OTHER.owner)
        assert now.converter.described == [VIDEO] * 2
        assert outcomes(now) == [("extracted", None), ("joined", None), ("cached", None), ("extracted", None)]
        assert not now.leftovers()


async def test_a_video_that_cannot_be_converted_is_asked_for_again_soon_and_a_fault_at_once(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        of = now.parts.descriptions.of
        now.converter.descriptions[VIDEO] = ConversionError(FailureCode.PRIVATE, "as the test asked")
        for seconds, times in ((0, 1), (KEPT_FAILURE_SECONDS - 1, 1), (1, 2)):
            await asyncio.sleep(seconds)
            with pytest.raises(ProbeRefused) as refused:
                await of(link(VIDEO), SOMEONE.owner)
            assert refused.value.reason_code == "private"
            assert len(now.converter.described) == times
        now.converter.descriptions[VIDEO] = ConversionError(FailureCode.UPSTREAM_ERROR, "as the test asked")
        await asyncio.sleep(KEPT_FAILURE_SECONDS)
        for times in (3, 4):
            with pytest.raises(ProbeFailed) as failed:
                await of(link(VIDEO), SOMEONE.owner)
            assert failed.value.reason_code == "upstream_error"
            assert failed.value.retry_after_seconds
            assert len(now.converter.described) == times


async def test_a_late_extraction_goes_on_and_the_same_request_gets_its_result(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        of = now.parts.descriptions.of
        held = now.converter.held_descriptions[VIDEO] = asyncio.Event()
        leaving = asyncio.create_task(of(link(VIDEO), SOMEONE.owner))
        await asyncio.sleep(1)
        leaving.cancel()
        with pytest.raises(ProbePending):
            await of(link(VIDEO), OTHER.owner)
        held.set()
        assert await of(link(VIDEO), OTHER.owner) == (VIDEO, DESCRIPTION)
        assert now.converter.described == [VIDEO]
        assert outcomes(now) == [("late", None), ("joined", None)]


async def test_one_client_asks_for_a_part_at_once_and_all_together_for_a_bounded_number(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        of = now.parts.descriptions.of
        numbers = range(2 * MAX_OPEN + 2)
        held = asyncio.Event()
        now.converter.held_descriptions = {video(number): held for number in numbers}
        asking = [asyncio.create_task(of(link(video(number)), SOMEONE.owner)) for number in range(MAX_OPEN)]
        await asyncio.sleep(1)
        refused = [task for task in asking if task.done()]
        assert len(refused) == MAX_OPEN // 2
        assert all(isinstance(task.exception(), ClientQuota) for task in refused)
        others = [
            asyncio.create_task(of(link(video(number)), ClientId(f"addr:192.0.2.{number}")))
            for number in range(MAX_OPEN, 2 * MAX_OPEN)
        ]
        await asyncio.sleep(1)
        full = [task for task in others if task.done()]
        assert len(full) == MAX_OPEN // 2
        assert all(isinstance(task.exception(), QueueFull) for task in full)
        held.set()
        await asyncio.gather(*asking, *others, return_exceptions=True)
        await of(link(video(numbers[-1])), SOMEONE.owner)


async def test_refusals_of_the_address_stop_probes_as_well_as_conversions(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        of = now.parts.descriptions.of
        for number in range(5):
            now.converter.descriptions[video(number)] = ConversionError(FailureCode.BOT_CHECK, "as the test asked")
            with pytest.raises(ProbeFailed):
                await of(link(video(number)), SOMEONE.owner)
        assert now.parts.upstream.is_blocked
        with pytest.raises(UpstreamBlocked) as blocked:
            await of(link(video(9)), SOMEONE.owner)
        assert blocked.value.retry_after_seconds
        assert len(now.converter.described) == 5


async def test_the_number_of_kept_descriptions_is_bounded(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        of = now.parts.descriptions.of
        for number in [*range(MAX_KEPT + 1), MAX_KEPT, 0]:
            await of(link(video(number)), SOMEONE.owner)
        assert len(now.converter.described) == MAX_KEPT + 2


async def test_probes_take_from_the_budget_of_an_identity_until_it_is_used_up(tmp_path: Path) -> None:
    budget = Budget(name="only", videos_per_hour=60)
    async with engine(tmp_path) as now:
        now.parts.upstream.identities.use([budget])
        of = now.parts.descriptions.of
        for number in range(budget.burst):
            await of(link(video(number)), ClientId(f"addr:198.51.100.{number}"))
        with pytest.raises(UpstreamBlocked) as blocked:
            await of(link(video(99)), SOMEONE.owner)
        assert now.converter.described_through == ["only"] * budget.burst
        # What is known needs no budget, and the time in Retry-After is enough for a new token.
        await of(link(video(0)), SOMEONE.owner)
        assert blocked.value.retry_after_seconds is not None
        await asyncio.sleep(blocked.value.retry_after_seconds)
        await now.parts.upstream.until_may_start()
        await of(link(video(99)), SOMEONE.owner)


async def test_the_probes_of_one_client_use_half_of_the_budget_at_most(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        of = now.parts.descriptions.of
        now.parts.upstream.identities.use([Budget(name=name, videos_per_hour=120) for name in ("first", "second")])
        asked = 0
        ends_at = now.clock() + 3600
        while now.clock() < ends_at:
            try:
                await of(link(video(asked)), SOMEONE.owner)
                asked += 1
            except ClientQuota as refused:
                await asyncio.sleep(refused.retry_after_seconds or 3600)
        assert 100 <= asked <= 130  # half of 240, and what may be used at once
        await of(link(video(500)), OTHER.owner)
