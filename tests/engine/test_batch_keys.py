"""A `POST /batches` that is repeated with its idempotency key gets the batch of the first request."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.engine.batch_steps import ORDER, ended
from tests.engine.lost_calls import lose_each_call
from tests.engine.rig import OTHER, RETENTION_SECONDS, SOMEONE, Rig, engine, link, video
from tests.fakes import Fault
from ytmp3.core.batch import BatchStatus, Line
from ytmp3.core.client import Client
from ytmp3.core.errors import BatchQuota, IdempotencyKeyReused
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.engine import events
from ytmp3.engine.batches import BatchState
from ytmp3.engine.idempotency import Idempotency
from ytmp3.jobstore.batches import MAX_UNFINISHED_OF_CLIENT

LINES = [Line(link=link(video(number))) for number in range(1, 4)]


async def create(now: Rig, *, key: str = "k", request: bytes = b"", client: Client = SOMEONE) -> BatchState:
    idempotency = Idempotency(key=key, request=request)
    return await now.parts.batches.create(LINES, ORDER, client, idempotency=idempotency)


async def test_a_repeated_request_gets_the_same_batch_in_its_current_state(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first = (await create(now)).batch.batch_id
        assert (await create(now)).batch.batch_id == first
        await ended(now, first)
        again = await create(now)
        assert (again.batch.batch_id, again.batch.status) == (first, BatchStatus.COMPLETED)
        assert again.counts == Counter(completed=3)
        assert len(now.seen(events.BatchAccepted)) == 1


async def test_requests_at_the_same_time_make_one_batch(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        states = await asyncio.gather(*(create(now) for _ in range(20)))
        assert len({state.batch.batch_id for state in states}) == 1
        assert await now.store.batches.unfinished() == 1


async def test_another_request_with_the_key_is_refused(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first = (await create(now, request=b"1")).batch.batch_id
        with pytest.raises(IdempotencyKeyReused):
            await create(now, request=b"2")
        playlist = now.parts.batches.create_from_playlist(
            "https://www.youtube.com/@Blender", ORDER, SOMEONE, idempotency=Idempotency(key="k", request=b"3")
        )
        with pytest.raises(IdempotencyKeyReused):
            await playlist
        assert (await create(now, request=b"2", client=OTHER)).batch.batch_id != first
        # A key of a job has nothing to do with the same key of a batch, even after the time for unfinished requests.
        idempotency = Idempotency(key="k", request=b"1")
        for _ in range(2):
            await now.parts.intake.submit(LINES[0].link, DEFAULT_RECIPE, SOMEONE, idempotency=idempotency)
            now.clock.advance(RETENTION_SECONDS / 2)
        assert (await create(now, request=b"1")).batch.batch_id == first


async def test_the_key_is_free_after_a_refusal_and_after_the_end_of_its_batch(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        for number in range(MAX_UNFINISHED_OF_CLIENT):
            await create(now, key=f"{number}")
        with pytest.raises(BatchQuota):
            await create(now)
        # A repetition of a request whose batch exists is not a new batch, so no quota refuses it.
        oldest = (await create(now, key="0")).batch.batch_id
        await ended(now, oldest)
        first = (await create(now)).batch.batch_id
        await ended(now, first)
        now.clock.advance(RETENTION_SECONDS + 1)
        assert await now.store.batches.expire(100) > 0
        second = (await create(now, request=b"new")).batch.batch_id
        assert second != first
        assert (await create(now, request=b"new")).batch.batch_id == second


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST_REPLY])
async def test_after_any_lost_call_a_repetition_makes_exactly_one_batch(tmp_path: Path, fault: Fault) -> None:
    async def check(now: Rig) -> None:
        batch_id = (await create(now)).batch.batch_id
        assert (await create(now)).batch.batch_id == batch_id
        assert await now.store.batches.unfinished() == 1

    await lose_each_call(tmp_path, fault, create, check)
