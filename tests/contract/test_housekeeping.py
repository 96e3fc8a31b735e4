"""Housekeeping: forget, expire, known files, counts; and what a restart keeps. Every test runs on both adapters."""

from msgspec.structs import replace

from tests.contract.harness import POLICY, Harness, Ids, counts, created, done, running, submitted, ticket_of, track_of
from ytmp3.core.errors import FailureCode
from ytmp3.core.job import Metadata
from ytmp3.jobstore import JobStore, Outcome, Renewal


async def test_only_done_conversions_are_forgotten(store: JobStore, ids: Ids) -> None:
    conversion = await created(store, ids.submission())
    await store.forget(conversion.conversion_id)
    await store.forget(ids.submission().conversion_id)
    assert (await submitted(store, ids.submission())).outcome is Outcome.JOINED


async def test_forgetting_an_old_conversion_leaves_its_successor(store: JobStore, ids: Ids) -> None:
    old = await done(store, ids.submission())
    await store.forget(old.conversion_id)
    await created(store, ids.submission())
    await store.forget(old.conversion_id)
    assert (await submitted(store, ids.submission())).outcome is Outcome.JOINED


async def test_expiry_removes_record_jobs_and_key_together(harness: Harness, store: JobStore, ids: Ids) -> None:
    submissions = [ids.submission(1), ids.submission(1), ids.submission(1)]
    finished = await done(store, submissions[0])
    await submitted(store, submissions[1])
    await submitted(store, submissions[2])
    await store.cancel(submissions[1].job_id)
    failing, cancelled, live = ids.submission(2), ids.submission(3), ids.submission(4)
    await store.fail((await running(store, failing)).lease, FailureCode.PRIVATE)
    await created(store, cancelled)
    await store.cancel(cancelled.job_id)
    assert await store.expire(100) == []
    harness.clock.advance(POLICY.retention_seconds)
    await created(store, live)
    assert finished.track is not None
    removed = await store.expire(100)
    assert sorted(removed, key=str) == sorted([None, None, finished.track.file_name], key=str)
    for submission in (*submissions, failing, cancelled):
        assert await store.get(submission.job_id) is None
    assert await store.counts() == counts(pending=1)
    assert (await submitted(store, ids.submission(1))).outcome is Outcome.CREATED
    assert await store.expire(100) == []


async def test_expire_removes_no_more_conversions_than_its_limit(harness: Harness, store: JobStore, ids: Ids) -> None:
    for video in range(12):
        await done(store, ids.submission(video))
    harness.clock.advance(POLICY.retention_seconds)
    names: list[str | None] = []
    while len(names) < 12:
        batch = await store.expire(5)
        assert 1 <= len(batch) <= 5
        names += batch
    assert len(set(names)) == 12
    assert await store.counts() == counts()


async def test_jobs_of_one_conversion_may_expire_in_many_steps(harness: Harness, ids: Ids) -> None:
    store = await harness.open(policy=replace(POLICY, jobs_at_once=2))
    names = set()
    for video, jobs in ((1, 8), (2, 3), (3, 1)):
        submissions = [ids.submission(video) for _ in range(jobs)]
        conversion = await done(store, submissions[0])
        for submission in submissions[1:]:
            await submitted(store, submission)
            await store.get(submission.job_id)
        for submission in submissions[::3]:
            await store.cancel(submission.job_id)
        assert conversion.track is not None
        names.add(conversion.track.file_name)
    live = await created(store, ids.submission(4))
    harness.clock.advance(POLICY.retention_seconds)
    await store.renew([Renewal(lease=live.lease)])
    assert {name for _ in range(3) for name in await store.expire(1)} == names
    assert await store.expire(1) == []
    assert await store.counts() == counts(pending=1)
    assert harness.indexes().expires_at == {}


async def test_known_files_are_those_of_done_conversions(store: JobStore, ids: Ids) -> None:
    finished = await done(store, ids.submission(1))
    live = await running(store, ids.submission(2))
    assert finished.track is not None
    name = finished.track.file_name
    stranger = track_of(replace(live.lease, conversion_id=finished.conversion_id)).file_name
    asked = [name, stranger, track_of(live.lease).file_name, "notes.txt", "", "ü.mp3", "\udcff.mp3"]
    assert await store.known_files(asked) == {name}
    assert await store.known_files([]) == frozenset()
    assert await store.tracks(asked) == {name: finished.track}
    assert await store.tracks([]) == {}


async def test_counts_follow_every_job(store: JobStore, ids: Ids) -> None:
    assert await store.counts() == counts()
    await created(store, ids.submission(1))
    await running(store, ids.submission(2))
    await submitted(store, ids.submission(2))
    await done(store, ids.submission(3))
    await store.fail((await running(store, ids.submission(4))).lease, FailureCode.LIVE)
    await store.cancel((await submitted(store, ids.submission(5))).ticket.job.job_id)
    assert await store.counts() == counts(pending=1, processing=2, completed=1, failed=1, cancelled=1)


async def test_records_survive_a_restart(harness: Harness, store: JobStore, ids: Ids) -> None:
    submissions = [ids.submission(video) for video in range(4)]
    await created(store, submissions[0])
    await running(store, submissions[1])
    await done(store, submissions[2])
    await store.cancel((await submitted(store, submissions[3])).ticket.job.job_id)
    before = [await ticket_of(store, submission.job_id) for submission in submissions]
    counted = await store.counts()
    await store.close()
    again = await harness.open("b")
    after = [await ticket_of(again, submission.job_id) for submission in submissions]
    assert [ticket.status for ticket in after] == [ticket.status for ticket in before]
    assert after[2:] == before[2:]
    assert await again.counts() == counted
    harness.clock.advance(POLICY.lease_seconds + 1)
    adopted = await again.adopt(10)
    assert [conversion.crashes for conversion in adopted] == [0, 1]
    assert {conversion.holder for conversion in adopted} == {"b"}


async def test_the_ping_of_a_usable_store_succeeds(store: JobStore) -> None:
    await store.ping()


async def test_metadata_with_any_text_is_read_back_unchanged(store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    metadata = Metadata(
        title='"quotes" \\ \n \x00 \u202e émoji 🎵 null',
        uploader="",
        duration_seconds=0.1 + 0.2,
        thumbnail_url="https://i.ytimg.com/vi/x/hq.jpg?a=1&b=2",
    )
    await store.renew([Renewal(lease=conversion.lease, metadata=metadata, progress=1 / 3)])
    recorded = (await ticket_of(store, submission.job_id)).conversion
    assert (recorded.metadata, recorded.progress) == (metadata, 1 / 3)
