"""Instances of 0.2.0 and of this version share a Redis, as during an upgrade, and after a rollback.

The instance of 0.2.0 runs that version's own code.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.harness import METADATA, Ids, RedisHarness, created, running, submitted, ticket_of, track_of
from tests.contract.released.instance import OldInstance, old_instance
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import JobId
from ytmp3.core.job import Status
from ytmp3.core.states import HEAD_START_SECONDS
from ytmp3.jobstore import JobStore, Outcome
from ytmp3.jobstore.redis.records import ERRORS_OF_0_2


@pytest.fixture
async def old(valkey_harness: RedisHarness, tmp_path: Path) -> AsyncIterator[OldInstance]:
    async with old_instance("0.2.0", valkey_harness.settings.address, tmp_path) as instance:
        await instance("set_time", valkey_harness.clock.now)
        assert await instance("version") == "0.2.0"
        yield instance


@pytest.fixture
async def new(valkey_harness: RedisHarness) -> JobStore:
    return await valkey_harness.open("a")


async def pass_time(valkey_harness: RedisHarness, old: OldInstance, seconds: float) -> None:
    valkey_harness.clock.advance(seconds)
    await old("set_time", valkey_harness.clock.now)


async def test_each_version_continues_what_the_other_accepted(
    valkey_harness: RedisHarness, old: OldInstance, new: JobStore, ids: Ids
) -> None:
    theirs = JobId(await old("submit", "video000001", 900))
    joined = await submitted(new, ids.submission(1))
    assert (joined.outcome, joined.ticket.conversion.video_id) == (Outcome.JOINED, "video000001")
    ours = (await created(new, ids.submission(2))).conversion_id
    # Both are stopped, and the other version adopts.
    await pass_time(valkey_harness, old, 31)
    adopted = {conversion.video_id: conversion for conversion in await new.adopt(1)}
    assert list(adopted) == ["video000001"]
    assert await old("adopt") == [ours]
    claimed = await new.claim(adopted[joined.ticket.conversion.video_id].lease)
    await new.finish(claimed.lease, track_of(claimed.lease), METADATA)
    assert (await old("job", theirs))["status"] == "completed"
    await old("claim", ours)
    name = await old("finish", ours)
    assert name == f"{ours}-4.mp3"
    assert await new.known_files([name]) == {name}
    again = await submitted(new, ids.submission(2))
    assert (again.outcome, again.ticket.status) == (Outcome.CACHED, Status.COMPLETED)


async def test_the_sweep_of_the_older_version_keeps_the_tracks_of_the_newer_one(
    old: OldInstance, new: JobStore, ids: Ids
) -> None:
    claimed = await running(new, ids.submission(1))
    track = track_of(claimed.lease)
    await new.finish(claimed.lease, track, METADATA)
    stray = track.file_name.replace(claimed.conversion_id, "0" * 34)
    assert await old("known_files", [track.file_name, stray]) == [track.file_name]


async def test_the_older_version_reads_and_continues_every_failure_of_the_newer_one(
    valkey_harness: RedisHarness, old: OldInstance, new: JobStore, ids: Ids
) -> None:
    codes_of_old = set(await old("codes"))
    jobs = {}
    for number, code in enumerate(FailureCode):
        submission = ids.submission(number)
        await new.fail((await running(new, submission)).lease, code)
        jobs[code] = submission.job_id
    waiting = ids.submission(100)
    claimed = await running(new, waiting)
    await new.retry(claimed.lease, FailureCode.EXTRACTOR_BROKEN, delay_seconds=0)
    for code, job_id in jobs.items():
        seen = await old("job", job_id)
        assert (seen["status"], seen["error"]) == ("failed", ERRORS_OF_0_2.get(code, code))
        assert seen["error"] in codes_of_old
        assert (await ticket_of(new, job_id)).conversion.error is code
    assert set(FailureCode) - codes_of_old == set(ERRORS_OF_0_2)
    assert await old("adopt") == [claimed.conversion_id]
    await old("claim", claimed.conversion_id)
    await old("retry", claimed.conversion_id, "bot_check")
    assert (await ticket_of(new, waiting.job_id)).conversion.error is FailureCode.BOT_CHECK


async def test_a_failure_code_of_a_newer_version_reads_as_one_that_this_version_knows(
    redis_harness: RedisHarness, ids: Ids
) -> None:
    new, submission = await redis_harness.open("a"), ids.submission(1)
    claimed = await running(new, submission)
    await new.retry(claimed.lease, FailureCode.STORAGE_FULL, delay_seconds=0)
    for fields, seen in (
        ({"error": "lost", "code": "lost/of_the_future"}, FailureCode.LOST),
        ({"error": "of_the_future", "code": "of_the_future/of_the_future"}, FailureCode.LOST),
        ({"error": "lost", "code": "lost/storage_full"}, FailureCode.STORAGE_FULL),
        ({"error": "private", "code": "lost/storage_full"}, FailureCode.PRIVATE),
    ):
        redis_harness.write(claimed.conversion_id, fields)
        assert (await ticket_of(new, submission.job_id)).conversion.error is seen
    redis_harness.clock.advance(HEAD_START_SECONDS)
    assert len(await new.adopt(10)) == 1
