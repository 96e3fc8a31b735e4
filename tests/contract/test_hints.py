"""Hints of Redis: an instance learns at once of what another one has written, also after the connection broke."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from tests.contract.harness import METADATA, Harness, Ids, RedisHarness, created, done, running, submitted, track_of
from tests.stand.waiting import PATIENCE_SECONDS
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import ConversionId
from ytmp3.core.job import Conversion, Stage
from ytmp3.jobstore import JobStore, Renewal, Submission
from ytmp3.jobstore.found import Found


class Hinted:
    """Receives the hints of one store."""

    def __init__(self, store: JobStore) -> None:
        self._hints: asyncio.Queue[tuple[ConversionId | None, bool]] = asyncio.Queue()
        store.hints.start(lambda *hint: self._hints.put_nowait(hint))

    async def next(self) -> tuple[ConversionId | None, bool]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._hints.get()

    @property
    def is_silent(self) -> bool:
        return self._hints.empty()


async def test_several_jobs_are_read_at_once(harness: Harness, store: JobStore, ids: Ids) -> None:
    submissions = [ids.submission(video) for video in (1, 2, 2)]
    for submission in submissions:
        await submitted(store, submission)
    job_ids = [submission.job_id for submission in submissions]
    unknown = ids.submission(3).job_id
    tickets = (await store.get_many([*job_ids, unknown])).tickets
    assert set(tickets) == set(job_ids)
    for job_id in job_ids:
        assert tickets[job_id] == await store.get(job_id)
    assert await store.get_many([]) == Found(tickets={})


Write = Callable[[JobStore, Submission, Conversion], Awaitable[None]]


async def _claim(store: JobStore, _: Submission, conversion: Conversion) -> None:
    await store.claim(conversion.lease)


async def _renew(store: JobStore, _: Submission, conversion: Conversion) -> None:
    await store.renew([Renewal(lease=conversion.lease, stage=Stage.DOWNLOADING, progress=0.5)])


async def _release(store: JobStore, _: Submission, conversion: Conversion) -> None:
    await store.release([conversion.lease])


async def _finish(store: JobStore, _: Submission, conversion: Conversion) -> None:
    claimed = await store.claim(conversion.lease)
    await store.finish(claimed.lease, track_of(claimed.lease), METADATA)


async def _fail(store: JobStore, _: Submission, conversion: Conversion) -> None:
    claimed = await store.claim(conversion.lease)
    await store.fail(claimed.lease, FailureCode.PRIVATE)


async def _retry(store: JobStore, _: Submission, conversion: Conversion) -> None:
    claimed = await store.claim(conversion.lease)
    await store.retry(claimed.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=1.0)


async def _cancel(store: JobStore, submission: Submission, _: Conversion) -> None:
    await store.cancel(submission.job_id)


@pytest.mark.parametrize("write", [_claim, _renew, _release, _finish, _fail, _retry, _cancel])
async def test_each_write_of_another_instance_gives_a_hint(redis_harness: RedisHarness, ids: Ids, write: Write) -> None:
    writer, reader = await redis_harness.open("a"), await redis_harness.open("b")
    hinted = Hinted(reader)
    submission, other = ids.submission(1), ids.submission(2)
    conversion, unwatched = await created(writer, submission), await created(writer, other)
    reader.hints.watch(conversion.conversion_id)
    assert await hinted.next() == (conversion.conversion_id, True), "the hint that watching has begun"
    await writer.release([unwatched.lease])
    await write(writer, submission, conversion)
    assert await hinted.next() == (conversion.conversion_id, False)
    if write is _cancel:
        assert await hinted.next() == (conversion.conversion_id, True), "the job has changed, too"


async def test_adopting_gives_a_hint_and_unwatching_ends_them(redis_harness: RedisHarness, ids: Ids) -> None:
    writer, reader = await redis_harness.open("a"), await redis_harness.open("b")
    hinted = Hinted(reader)
    first, second = await running(writer, ids.submission(1)), await running(writer, ids.submission(2))
    for conversion in (first, second):
        reader.hints.watch(conversion.conversion_id)
        assert await hinted.next() == (conversion.conversion_id, True)
    reader.hints.unwatch(first.conversion_id)
    third = await created(writer, ids.submission(3))
    reader.hints.watch(third.conversion_id)
    assert await hinted.next() == (third.conversion_id, True), "commands are carried out in order"
    await writer.release([first.lease])
    await writer.release([second.lease])
    assert await hinted.next() == (second.conversion_id, False)
    await writer.adopt(10)
    assert await hinted.next() == (second.conversion_id, False)
    assert hinted.is_silent


async def test_a_broken_connection_is_opened_again_and_each_conversion_hinted(
    redis_harness: RedisHarness, ids: Ids
) -> None:
    writer, reader = await redis_harness.open("a"), await redis_harness.open("b")
    hinted = Hinted(reader)
    conversion = await running(writer, ids.submission(1))
    reader.hints.watch(conversion.conversion_id)
    await hinted.next()
    assert sum(cast("list[int]", redis_harness.tell_servers("CLIENT", "KILL", "TYPE", "pubsub"))) == 1
    assert await hinted.next() == (conversion.conversion_id, True), "what was missed is read"
    await writer.release([conversion.lease])
    assert await hinted.next() == (conversion.conversion_id, False)


async def test_a_user_who_may_not_publish_still_gets_every_change_stored(redis_harness: RedisHarness, ids: Ids) -> None:
    redis_harness.tell_servers("ACL", "SETUSER", "default", "resetchannels")
    try:
        store = await redis_harness.open()
        conversion = await done(store, ids.submission(1))
        assert conversion.track is not None
        assert await store.adopt(10) == []
    finally:
        redis_harness.tell_servers("ACL", "SETUSER", "default", "allchannels")
