"""Batches of playlists: reading the list first, and what happens if that fails, takes long, or is interrupted."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.engine.batch_steps import ORDER, ended, state, turn, videos
from tests.engine.rig import SOMEONE, Rig, engine, video
from ytmp3.core.batch import BatchStatus, ItemStatus
from ytmp3.core.errors import ConversionError, FailureCode, PlaylistRefused
from ytmp3.core.ids import VideoId
from ytmp3.core.playlist import Entry, Listing

LINK = "https://www.youtube.com/playlist?list=PLBCF2DAC6FFB574DE"


def listing(count: int, *, is_truncated: bool = False, private: tuple[int, ...] = ()) -> Listing:
    entries = [
        Entry(video_id=VideoId(name), code="private" if number in private else None)
        for number, name in enumerate(videos(count))
    ]
    return Listing(title="A list", entries=tuple(entries), is_truncated=is_truncated)


async def created(rig: Rig) -> str:
    return (await rig.parts.batches.create_from_playlist(LINK, ORDER, SOMEONE)).batch.batch_id


async def test_the_entries_become_items(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.playlists[LINK] = listing(30, private=(3, 7), is_truncated=True)
        batch_id = await created(rig)
        first = await state(rig, batch_id)
        assert (first.batch.status, first.eta_seconds, first.counts.total()) == (BatchStatus.LISTING, None, 0)
        now = await ended(rig, batch_id)
        assert now.batch.status is BatchStatus.COMPLETED
        assert now.counts == Counter(completed=28, refused=2)
        assert (now.batch.title, now.batch.is_truncated) == ("A list", True)
        assert rig.converter.listed == [LINK]
        assert not rig.leftovers()


@pytest.mark.parametrize(
    ("code", "shown"),
    [(FailureCode.VIDEO_UNAVAILABLE, "playlist_unavailable"), (FailureCode.AGE_RESTRICTED, "age_restricted")],
)
async def test_a_list_that_cannot_be_read_ends_the_batch(tmp_path: Path, code: FailureCode, shown: str) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.playlists[LINK] = ConversionError(code)
        now = await ended(rig, await created(rig))
        assert (now.batch.status, now.batch.error) == (BatchStatus.FAILED, shown)
        assert len(rig.converter.listed) == 1


async def test_a_list_without_a_video_ends_the_batch(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.playlists[LINK] = listing(2, private=(0, 1))
        now = await ended(rig, await created(rig))
        assert (now.batch.status, now.batch.error) == (BatchStatus.FAILED, "playlist_empty")


async def test_a_fault_of_youtube_is_tried_again(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.playlists[LINK] = ConversionError(FailureCode.UPSTREAM_ERROR)
        batch_id = await created(rig)
        await turn(rig)
        await asyncio.sleep(1)
        rig.converter.playlists[LINK] = listing(2)
        assert (await ended(rig, batch_id)).counts == Counter(completed=2)
        rig.converter.playlists[LINK] = ConversionError(FailureCode.UPSTREAM_ERROR)
        now = await ended(rig, await created(rig))
        assert (now.batch.status, now.batch.error) == (BatchStatus.FAILED, "upstream_error")


async def test_a_batch_is_cancelled_while_its_list_is_read(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.playlists[LINK] = ConversionError(FailureCode.UPSTREAM_ERROR)
        batch_id = await created(rig)
        await turn(rig)
        await rig.parts.batches.cancel(batch_id, None)
        await turn(rig)
        now = await state(rig, batch_id)
        assert (now.batch.status, now.batch.completed_at is None, rig.parts.feeder.held) == ("cancelled", False, 0)


async def test_another_instance_reads_the_list_after_a_crash(tmp_path: Path) -> None:
    async with engine(tmp_path) as dead:
        dead.converter.playlists[LINK] = ConversionError(FailureCode.UPSTREAM_ERROR)
        batch_id = await created(dead)
        await turn(dead)
        await dead.kill()
    dead.converter.playlists[LINK] = listing(3)
    async with engine(tmp_path, instance="b", clock=dead.clock, converter=dead.converter) as heir:
        assert (await ended(heir, batch_id)).counts[ItemStatus.COMPLETED] == 3


async def test_mixes_are_refused(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        with pytest.raises(PlaylistRefused):
            await rig.parts.batches.create_from_playlist(f"{LINK[:-18]}RD{video(1)}", ORDER, SOMEONE)
