"""Leases: renewed while a conversion runs or waits, and respected when they are lost."""

import asyncio
from pathlib import Path

from tests.engine.rig import LEASE_SECONDS, Rig, engine, video
from tests.virtual_time import settled
from ytmp3.core.errors import RenewalsMissed, StoreDown
from ytmp3.core.job import Job, Status
from ytmp3.engine import events
from ytmp3.engine.runs import Stop

VIDEO = video(1)


async def taken_over(now: Rig) -> None:
    """Let another instance adopt everything: for the store, this instance has been away for longer than a lease."""
    now.clock.advance(LEASE_SECONDS + 1)
    await now.records.adopt(10)


async def test_leases_of_running_and_of_waiting_conversions_are_renewed(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        job, waiting = await now.running(VIDEO), await now.submit(video(2))
        await asyncio.sleep(10 * LEASE_SECONDS)
        assert await now.records.adopt(10) == []
        assert (await now.conversion(waiting)).queue_position == 1
        assert (await now.conversion(job)).progress == 0.4


async def test_progress_is_recorded_within_a_second(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        assert (await now.conversion(job)).progress == 0.0
        await asyncio.sleep(1)
        await settled()
        recorded = await now.conversion(job)
        assert recorded.progress == 0.4
        assert recorded.metadata is not None


async def test_unchanged_progress_is_not_written_again(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.running(VIDEO)
        await asyncio.sleep(LEASE_SECONDS / 3 - 1)
        assert now.store.calls.count("renew") == 1


async def test_an_instance_that_has_lost_the_lease_publishes_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        await taken_over(now)
        token = (await now.conversion(job)).token
        now.converter.hold(VIDEO).set()
        await settled()
        assert now.converter.converted.count(VIDEO) == 1
        assert now.tracks() == {}
        assert "finish" not in now.store.calls
        assert len(now.seen(events.LeaseLost)) == 1
        assert (await now.conversion(job)).token == token


async def test_an_instance_that_loses_the_lease_while_publishing_deletes_the_file(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        arrival = now.store.held_calls["finish"] = asyncio.Event()
        await now.submit(VIDEO)
        await settled()
        assert len(now.tracks()) == 1
        await taken_over(now)
        arrival.set()
        await settled()
        assert now.tracks() == {}
        assert now.parts.runs.active == 0


async def test_a_lease_lost_while_running_stops_the_attempt(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        await taken_over(now)
        await asyncio.sleep(LEASE_SECONDS)
        assert now.converter.cancelled[VIDEO] == 1
        assert now.parts.runs.active == 0
        assert (await now.conversion(job)).crashes == 1
        assert len(now.seen(events.LeaseLost)) == 1


async def test_a_renewal_overtaken_by_a_claim_does_not_stop_the_attempt(tmp_path: Path) -> None:
    # Over a network, the renewal of a waiting conversion may arrive after its claim, and then finds its token stale.
    async with engine(tmp_path, workers=1) as now:
        first, waiting = await now.running(VIDEO), await now.submit(video(2))
        now.converter.hold(video(2))
        await asyncio.sleep(2)
        arrival = now.store.held_calls["renew"] = asyncio.Event()
        await asyncio.sleep(LEASE_SECONDS / 3)
        assert now.store.calls[-1] == "renew"
        # A publication would need a renewal too, so the first conversion is stopped instead: that frees the worker.
        run = now.parts.runs.get(first.conversion_id)
        assert run is not None
        run.stop(Stop.LEASE_LOST)
        await settled()
        assert video(2) in now.converter.running
        arrival.set()
        del now.store.held_calls["renew"]
        await asyncio.sleep(LEASE_SECONDS)
        assert now.converter.cancelled[video(2)] == 0
        now.converter.hold(video(2)).set()
        assert (await now.ended(waiting)).status is Status.COMPLETED


async def test_a_waiting_conversion_that_another_instance_holds_leaves_the_queue(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.running(VIDEO)
        waiting: Job = await now.submit(video(2))
        await now.records.release([(await now.conversion(waiting)).lease])
        await asyncio.sleep(LEASE_SECONDS)
        assert now.parts.queue.qsize() == 0


async def test_the_keeper_survives_any_error_of_the_store(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        now.store.broken["renew"] = RuntimeError("a bug")
        await asyncio.sleep(LEASE_SECONDS / 3 + 5)
        assert now.store.calls.count("renew") > 3
        now.store.broken.clear()
        await asyncio.sleep(LEASE_SECONDS)
        assert await now.records.adopt(10) == []
        now.converter.hold(VIDEO).set()
        assert (await now.ended(job)).status is Status.COMPLETED


async def test_a_failed_renewal_is_repeated_before_the_lease_runs_out(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.running(VIDEO)
        now.store.broken["renew"] = StoreDown("no answer")
        await asyncio.sleep(LEASE_SECONDS - 2)
        now.store.broken.clear()
        await asyncio.sleep(4)
        assert await now.records.adopt(10) == []


async def test_only_the_renewals_that_a_part_of_the_store_has_missed_are_repeated(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        job, *waiting = [await now.running(VIDEO), await now.submit(video(2)), await now.submit(video(3))]
        missed = (await now.conversion(waiting[0])).conversion_id
        await settled()
        now.store.broken["renew"] = RenewalsMissed("no answer", lost=frozenset(), missed=frozenset({missed}))
        await asyncio.sleep(LEASE_SECONDS / 3 + 1)
        now.store.broken.clear()
        before = {each.job_id: (await now.conversion(each)).due_at for each in (job, *waiting)}
        await asyncio.sleep(2)
        renewed = [each for each in (job, *waiting) if (await now.conversion(each)).due_at != before[each.job_id]]
        assert renewed == [waiting[0]]


async def test_a_conversion_whose_lease_is_lost_is_stopped_although_other_renewals_were_missed(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        lost = (await now.conversion(job)).conversion_id
        now.store.broken["renew"] = RenewalsMissed("no answer", lost=frozenset({lost}), missed=frozenset({"other"}))
        await asyncio.sleep(LEASE_SECONDS / 3 + 1)
        assert len(now.seen(events.LeaseLost)) == 1


async def test_an_instance_never_has_two_attempts_at_one_conversion(tmp_path: Path) -> None:
    """An instance adopts a conversion again while its own earlier attempt, which lost the lease, has not ended yet."""
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        ends = now.converter.end_slowly(VIDEO)
        now.clock.advance(LEASE_SECONDS + 1)
        for _ in range(5):
            await now.parts.janitor.adopt()
            await settled()
            await asyncio.sleep(1)
        assert now.converter.started[VIDEO] == 1
        ends.set()
        now.converter.hold(VIDEO).set()
        assert (await now.ended(job)).status is Status.COMPLETED
        assert now.converter.most_at_once == 1
