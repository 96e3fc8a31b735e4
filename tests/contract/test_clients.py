"""Lists of a client's jobs, reservations for idempotency keys, and feeds. Every test runs on both adapters."""

import asyncio
import contextlib
import sqlite3
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from tests.contract.harness import POLICY, Harness, Ids, RedisHarness, submitted
from tests.contract.sqlite_stores import opened
from tests.contract.test_upgrades import RELEASED
from ytmp3.core.ids import ClientId, JobId, shard_of
from ytmp3.jobstore import JobStore, Submission
from ytmp3.jobstore.found import Place

ALICE = ClientId("key:alice")
BOB = ClientId("key:bob")
NAME = "ab" * 32
OTHER_NAME = "cd" * 32
LIFE_SECONDS = 5000.0


async def listed(store: JobStore, ids: Ids, video: int, client: ClientId = ALICE) -> Submission:
    submission = replace(ids.submission(video, client=client), is_listed=True)
    await submitted(store, submission)
    return submission


async def pages(store: JobStore, client: ClientId, limit: int) -> list[list[JobId]]:
    """Read a list page by page, to its end."""
    found: list[list[JobId]] = []
    before = None
    while tickets := list((await store.clients.jobs_of(client, before=before, limit=limit)).tickets.values()):
        assert len(tickets) <= limit
        found.append([ticket.job.job_id for ticket in tickets])
        last = tickets[-1].job
        before = Place(created_at=last.created_at, job_id=last.job_id)
    return found


async def test_a_client_lists_its_own_jobs_the_newest_first(harness: Harness, store: JobStore, ids: Ids) -> None:
    mine = []
    for video in range(7):
        mine.append((await listed(store, ids, video)).job_id)
        await listed(store, ids, video, BOB)
        await submitted(store, ids.submission(video, client=ALICE))
        harness.clock.advance(1.0)
    assert await pages(store, ALICE, 3) == [mine[:3:-1], mine[3:0:-1], mine[:1]]
    assert await pages(store, ALICE, 100) == [mine[::-1]]
    assert await pages(store, ClientId("key:nobody"), 3) == []
    (newest,) = (await store.clients.jobs_of(ALICE, before=None, limit=1)).tickets.values()
    assert newest == await store.get(mine[-1])


async def test_jobs_of_the_same_moment_are_listed_once_each(store: JobStore, ids: Ids) -> None:
    mine = {(await listed(store, ids, video)).job_id for video in range(40)}
    found = [job_id for page in await pages(store, ALICE, 7) for job_id in page]
    assert (len(found), set(found)) == (40, mine)


async def test_a_page_is_not_moved_by_newer_jobs_and_skips_those_that_are_gone(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    mine = []
    for video in range(30):
        mine.append(await listed(store, ids, video))
        harness.clock.advance(1.0)
    first = list((await store.clients.jobs_of(ALICE, before=None, limit=5)).tickets.values())
    place = Place(created_at=first[-1].job.created_at, job_id=first[-1].job.job_id)
    await listed(store, ids, 99)
    for submission in mine[5:25]:
        await store.cancel(submission.job_id)
    harness.clock.advance(POLICY.retention_seconds)
    await store.expire(1000)
    rest = await store.clients.jobs_of(ALICE, before=place, limit=10)
    assert list(rest.tickets) == [each.job_id for each in mine[4::-1]]
    assert len(await pages(store, ALICE, 4)) == 3


async def test_a_repeated_submission_is_listed_once(store: JobStore, ids: Ids) -> None:
    submission = await listed(store, ids, 1)
    await submitted(store, submission)
    assert await pages(store, ALICE, 5) == [[submission.job_id]]


async def test_the_first_reservation_of_a_name_holds(harness: Harness, store: JobStore) -> None:
    reserve = partial(store.clients.reserve, life_seconds=LIFE_SECONDS)
    first = await reserve(NAME, "11", "one")
    assert (first.resource_id, first.fingerprint, first.age_seconds) == ("one", "11", 0.0)
    harness.clock.advance(5.0)
    again = await reserve(NAME, "22", "two")
    assert (again.resource_id, again.fingerprint, round(again.age_seconds, 3)) == ("one", "11", 5.0)
    # Only the reservation that the caller has seen is replaced.
    assert (await reserve(NAME, "33", "three", instead_of="another")).resource_id == "one"
    assert (await reserve(NAME, "33", "three", instead_of="one")).resource_id == "three"
    assert (await reserve(NAME, "44", "four", instead_of="one")).resource_id == "three"
    assert (await reserve(OTHER_NAME, "55", "five")).resource_id == "five"


async def test_reservations_at_the_same_time_agree(store: JobStore) -> None:
    found = await asyncio.gather(
        *(store.clients.reserve(NAME, "11", str(number), life_seconds=LIFE_SECONDS) for number in range(30))
    )
    assert len({each.resource_id for each in found}) == 1


async def test_a_reservation_ends_after_its_life(harness: Harness, store: JobStore) -> None:
    reserve = store.clients.reserve
    await reserve(NAME, "11", "one", life_seconds=LIFE_SECONDS)
    await reserve(OTHER_NAME, "33", "three", life_seconds=2 * LIFE_SECONDS)
    if isinstance(harness, RedisHarness):
        # The clock of a test does not move the times to live of the server.
        assert abs(harness.seconds_left(NAME) - LIFE_SECONDS) < 60
        assert abs(harness.seconds_left(OTHER_NAME) - 2 * LIFE_SECONDS) < 60
        return
    harness.clock.advance(LIFE_SECONDS + 1)
    assert (await reserve(NAME, "22", "two", life_seconds=LIFE_SECONDS)).resource_id == "two"
    assert (await reserve(OTHER_NAME, "44", "four", life_seconds=LIFE_SECONDS)).resource_id == "three"


async def test_a_client_has_one_feed_token_at_a_time(store: JobStore) -> None:
    digests = [f"{shard_of(ALICE)}{number:064x}" for number in range(2)]
    feeds = store.clients
    assert await feeds.feed_owner(digests[0]) is None
    await feeds.set_feed(ALICE, digests[0])
    await feeds.set_feed(BOB, other := f"{shard_of(BOB)}{3:064x}")
    assert (await feeds.feed_owner(digests[0]), await feeds.feed_owner(other)) == (ALICE, BOB)
    await feeds.set_feed(ALICE, digests[1])
    assert [await feeds.feed_owner(digest) for digest in digests] == [None, ALICE]
    await feeds.set_feed(ALICE, None)
    await feeds.set_feed(ALICE, None)
    assert (await feeds.feed_owner(digests[1]), await feeds.feed_owner(other)) == (None, BOB)


async def test_the_jobs_of_a_key_in_an_older_store_are_listed(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        script = (RELEASED / "0.2.0.sql").read_text()
        record = b'"client":"addr:192.0.2.1"'.hex().upper()
        assert script.count(record) > 7
        connection.executescript(script.replace(record, b'"client":"key:alice"'.hex().upper()))
    async with opened(path) as store:
        (jobs,) = await pages(store, ALICE, 100)
        assert len(jobs) == 7
        assert jobs == sorted(jobs, reverse=True)
