"""Batches of the chapters of a video: reading them first, and what happens if there are none, or that fails."""

import asyncio
from collections import Counter
from pathlib import Path

from msgspec.structs import replace

from tests.engine.batch_steps import ORDER, ended, turn
from tests.engine.rig import LEASE_SECONDS, SOMEONE, Rig, engine, link, video
from tests.fake_playlists import DESCRIPTION
from ytmp3.core.batch import LONGEST_SECONDS, BatchStatus, ItemStatus
from ytmp3.core.cut import Cut
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.job import Chapter
from ytmp3.core.tag_edits import BatchTags, TagEdits
from ytmp3.engine.batch_orders import BatchOrder
from ytmp3.engine.listings import RETRY_SECONDS

VIDEO = video(1)
CHAPTERS = tuple(Chapter(start_seconds=60.0 * number, title=f"Part {number}") for number in range(3))
DESCRIBED = replace(DESCRIPTION, metadata=replace(DESCRIPTION.metadata, chapters=CHAPTERS))


async def created(rig: Rig, order: BatchOrder = ORDER) -> str:
    return (await rig.parts.batches.create_from_chapters(link(VIDEO), order, SOMEONE)).batch.batch_id


async def test_each_chapter_becomes_a_numbered_part(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.descriptions[VIDEO] = DESCRIBED
        batch_id = await created(rig, replace(ORDER, tags=BatchTags(artist="DJ", album="Live")))
        batch = await rig.parts.batches.find(batch_id, None)
        assert (batch.status, batch.is_split) == (BatchStatus.LISTING, True)
        state = await ended(rig, batch_id)
        assert (state.batch.status, state.batch.title) == (BatchStatus.COMPLETED, "A video")
        assert not state.batch.is_truncated
        page = await rig.parts.batches.items(batch_id, None, start=0, limit=10)
        assert [item.item.cut for item in page.items] == [
            Cut(end_ms=60_000),
            Cut(start_ms=60_000, end_ms=120_000),
            Cut(start_ms=120_000),
        ]
        tickets = [item.ticket for item in page.items]
        assert [each.job.edits for each in tickets if each] == [
            TagEdits(title=f"Part {number}", artist="DJ", album="Live", track_number=number + 1, track_total=3)
            for number in range(3)
        ]
        assert [each.conversion.recipe.cut for each in tickets if each] == [item.item.cut for item in page.items]
        assert rig.converter.described == [VIDEO]


async def test_a_video_with_too_many_chapters_is_split_up_to_the_first_one_that_is_left_out(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.descriptions[VIDEO] = replace(DESCRIBED, next_chapter_seconds=150.0)
        batch_id = await created(rig)
        state = await ended(rig, batch_id)
        assert state.batch.is_truncated
        page = await rig.parts.batches.items(batch_id, None, start=0, limit=10)
        assert page.items[-1].item.cut == Cut(start_ms=120_000, end_ms=150_000)


async def test_a_video_without_chapters_ends_the_batch_with_a_clear_error(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        state = await ended(rig, await created(rig))
        assert (state.batch.status, state.batch.error) == (BatchStatus.FAILED, "no_chapters")
        assert rig.converter.converted == []


async def test_a_video_that_cannot_be_converted_ends_the_batch_with_its_code(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.descriptions[VIDEO] = ConversionError(FailureCode.PRIVATE, "as the test asked")
        state = await ended(rig, await created(rig))
        assert (state.batch.status, state.batch.error) == (BatchStatus.FAILED, "private")


async def test_temporary_failures_are_retried_a_few_times(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.descriptions[VIDEO] = ConversionError(FailureCode.UPSTREAM_ERROR, "as the test asked")
        state = await ended(rig, await created(rig))
        assert (state.batch.status, state.batch.error) == (BatchStatus.FAILED, "upstream_error")
        assert len(rig.converter.described) == rig.parts.settings.max_retries + 1


async def test_a_late_probe_is_awaited(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.descriptions[VIDEO] = DESCRIBED
        event = rig.converter.held_descriptions[VIDEO] = asyncio.Event()
        batch_id = await created(rig)
        await turn(rig)
        for _ in range(4):
            await asyncio.sleep(4 * RETRY_SECONDS)
            await turn(rig)
        assert (await rig.parts.batches.find(batch_id, None)).status is BatchStatus.LISTING
        event.set()
        state = await ended(rig, batch_id)
        assert state.counts == Counter({ItemStatus.COMPLETED: 3})
        assert rig.converter.described == [VIDEO]


async def test_chapters_that_cannot_be_read_for_a_week_are_given_up_in_spite_of_a_new_holder(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.held_descriptions[VIDEO] = asyncio.Event()
        batch_id = await created(rig)
        await turn(rig)
        rig.clock.advance(LONGEST_SECONDS)
        await asyncio.sleep(LEASE_SECONDS)
        state = await ended(rig, batch_id)
        assert (state.batch.status, state.batch.error) == (BatchStatus.FAILED, "expired_waiting")
        assert state.batch.completed_at is not None
        assert state.batch.completed_at - state.batch.created_at < LONGEST_SECONDS + 4 * LEASE_SECONDS
        assert rig.parts.feeder.held == 0


async def test_a_cancelled_batch_reads_no_chapters_any_more(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.held_descriptions[VIDEO] = asyncio.Event()
        batch_id = await created(rig)
        await turn(rig)
        await rig.parts.batches.cancel(batch_id, None)
        state = await ended(rig, batch_id)
        assert state.batch.status is BatchStatus.CANCELLED
        assert state.counts.total() == 0
