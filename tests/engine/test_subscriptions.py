"""Subscriptions: the newest state of each followed job, early when it matters, and never a backlog."""

import asyncio
from itertools import pairwise
from pathlib import Path

from tests.engine.rig import OTHER, Rig, engine, video
from tests.virtual_time import seconds, settled
from ytmp3.core.errors import FailureCode, StoreDown
from ytmp3.core.ids import JobId
from ytmp3.core.job import Report, Stage, Status, Ticket
from ytmp3.engine.subscriptions import INTERVAL_SECONDS, POLL_SECONDS, Snapshot, Subscription

VIDEO = video(1)
LONG_SECONDS = 3600.0


def status_of(snapshot: Snapshot) -> Status:
    assert snapshot.ticket is not None
    return snapshot.ticket.status


def report(now: Rig, ticket: Ticket, progress: float, stage: Stage = Stage.DOWNLOADING) -> None:
    """Let the converter of a running job report progress."""
    run = now.parts.runs.get(ticket.conversion.conversion_id)
    assert run is not None
    run.on_progress(Report(stage=stage, progress=progress))


async def taken(subscription: Subscription, seconds: float = LONG_SECONDS) -> Snapshot:
    """Take the state of the only job that has changed."""
    (snapshot,) = await subscription.take(seconds)
    return snapshot


async def test_a_subscription_begins_with_the_present_state_of_each_job(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        jobs = [await now.submit(video(number)) for number in range(3)]
        await settled()
        with now.parts.subscriptions.open([await now.ticket(job) for job in jobs]) as subscription:
            snapshots = await subscription.take(0.0)
            assert [snapshot.job_id for snapshot in snapshots] == [job.job_id for job in jobs]
            assert {status_of(snapshot) for snapshot in snapshots} == {Status.COMPLETED}
            assert subscription.has_ended
            assert await subscription.take(0.0) == []


async def test_progress_is_taken_at_most_twice_a_second_and_only_the_newest(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.subscriptions.start()
        ticket = await now.ticket(await now.running(VIDEO))
        with now.parts.subscriptions.open([ticket]) as subscription:
            await taken(subscription)
            shown: list[Snapshot] = []
            shown_at = [seconds()]
            for step in range(41, 61):
                report(now, ticket, step / 100)
                await asyncio.sleep(INTERVAL_SECONDS / 5)
                if snapshots := await subscription.take(0.0):
                    shown += snapshots
                    shown_at.append(seconds())
            assert len(shown) >= 3
            assert all(later - earlier >= INTERVAL_SECONDS for earlier, later in pairwise(shown_at))
            progress = [snapshot.live.report.progress for snapshot in shown if snapshot.live.report]
            assert progress == sorted(set(progress))
            (run,) = now.parts.runs
            assert (await taken(subscription)).live.report == run.report


async def test_a_new_stage_and_the_end_are_taken_at_once(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.subscriptions.start()
        ticket = await now.ticket(await now.running(VIDEO))
        with now.parts.subscriptions.open([ticket]) as subscription:
            await taken(subscription)
            await asyncio.sleep(LONG_SECONDS)
            await subscription.take(0.0)
            for stage in (Stage.CONVERTING, Stage.PUBLISHING):
                begun_at = seconds()
                report(now, ticket, 0.5, stage)
                live = (await taken(subscription)).live
                assert (live.report is not None and live.report.stage, seconds()) == (stage, begun_at)
            now.converter.held[VIDEO].set()
            begun_at = seconds()
            while status_of(await taken(subscription)) is not Status.COMPLETED:
                pass
            assert seconds() - begun_at < INTERVAL_SECONDS / 2


async def test_every_kind_of_end_is_taken(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=0) as now:
        now.parts.subscriptions.start()
        now.converter.fail(video(1), FailureCode.PRIVATE)
        failed, cancelled, kept = await now.submit(video(1)), await now.running(video(2)), await now.submit(video(2))
        alone = await now.running(video(3))
        tickets = [await now.ticket(job) for job in (failed, cancelled, kept, alone)]
        with now.parts.subscriptions.open(tickets) as subscription:
            await subscription.take(0.0)
            await now.parts.jobs.cancel(cancelled.job_id, None)
            await now.parts.jobs.cancel(alone.job_id, None)
            now.converter.held[video(2)].set()
            last: dict[str, Status] = {}
            while len(last) < 3 or not set(last.values()) <= {Status.COMPLETED, Status.CANCELLED}:
                last |= {snapshot.job_id: status_of(snapshot) for snapshot in await subscription.take(LONG_SECONDS)}
            assert last == {
                cancelled.job_id: Status.CANCELLED, kept.job_id: Status.COMPLETED, alone.job_id: Status.CANCELLED,
            }  # fmt: skip
            assert seconds() < POLL_SECONDS, "events are enough"


async def test_a_retry_is_taken_and_the_next_attempt(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.subscriptions.start()
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR)
        may_go_on = now.converter.hold(VIDEO)
        job = await now.running(VIDEO)
        with now.parts.subscriptions.open([await now.ticket(job)]) as subscription:
            await subscription.take(0.0)
            may_go_on.set()
            snapshot = await taken(subscription)
            while status_of(snapshot) is Status.PROCESSING:
                snapshot = await taken(subscription)
            assert snapshot.ticket is not None
            assert (status_of(snapshot), snapshot.ticket.conversion.error) == (
                Status.PENDING, FailureCode.UPSTREAM_ERROR,
            )  # fmt: skip
            await now.ended(job)
            await settled()
            while status_of(snapshot) is not Status.COMPLETED:
                snapshot = await taken(subscription)
            assert subscription.has_ended


async def test_a_job_that_expires_is_taken_as_gone(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.subscriptions.start()
        job, other = await now.submit(VIDEO), await now.submit(VIDEO)
        await settled()
        with now.parts.subscriptions.open([await now.ticket(job), await now.ticket(other)]) as subscription:
            await subscription.take(0.0)
            now.clock.advance(LONG_SECONDS + 1)
            await now.parts.janitor.expire()
            gone = await subscription.take(LONG_SECONDS)
            assert {(snapshot.job_id, snapshot.ticket) for snapshot in gone} == {
                (job.job_id, None), (other.job_id, None),
            }  # fmt: skip


async def test_changes_of_another_instance_are_found_by_a_hint_and_without_one(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.subscriptions.start()
        job = await now.running(VIDEO)
        ticket = await now.ticket(job)
        conversion_id = ticket.conversion.conversion_id
        # Another instance has taken the conversion over, so this one has no run and no event of it.
        await now.records.release([ticket.conversion.lease])
        with now.parts.subscriptions.open([ticket]) as subscription:
            await subscription.take(0.0)
            await settled()
            assert status_of((await subscription.take(0.0))[0]) is Status.PENDING
            await now.records.cancel(job.job_id)
            begun_at = seconds()
            now.parts.subscriptions.on_hint(conversion_id, True)
            assert status_of(await taken(subscription)) is Status.CANCELLED
            assert seconds() - begun_at < INTERVAL_SECONDS
        second = await now.submit(video(2), OTHER)
        await settled()
        with now.parts.subscriptions.open([await now.ticket(second)]) as subscription:
            await subscription.take(0.0)
            await now.records.cancel(second.job_id)
            assert status_of(await taken(subscription)) is Status.CANCELLED
            assert seconds() - begun_at <= POLL_SECONDS + INTERVAL_SECONDS


async def test_an_outage_of_the_store_only_delays_what_is_taken(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.subscriptions.start()
        job = await now.submit(VIDEO)
        await settled()
        with now.parts.subscriptions.open([await now.ticket(job)]) as subscription:
            await subscription.take(0.0)
            now.store.broken["get_many"] = StoreDown("no answer")
            await now.records.cancel(job.job_id)
            assert await subscription.take(3 * POLL_SECONDS) == []
            del now.store.broken["get_many"]
            assert status_of(await taken(subscription)) is Status.CANCELLED


async def test_a_part_of_the_store_that_is_down_does_not_delay_the_jobs_of_the_others(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=0) as now:
        now.parts.subscriptions.start()
        down, other = await now.submit(VIDEO), await now.submit(video(2))
        await settled()
        with now.parts.subscriptions.open([await now.ticket(down), await now.ticket(other)]) as subscription:
            await subscription.take(0.0)
            now.store.unread = {down.job_id}
            for job in (down, other):
                await now.records.cancel(job.job_id)
            shown: set[tuple[JobId, Status]] = set()
            while (other.job_id, Status.CANCELLED) not in shown:
                shown |= {(each.job_id, status_of(each)) for each in await subscription.take(LONG_SECONDS)}
            shown |= {(each.job_id, status_of(each)) for each in await subscription.take(3 * POLL_SECONDS)}
            assert (down.job_id, Status.CANCELLED) not in shown
            now.store.unread = set()
            while (down.job_id, Status.CANCELLED) not in shown:
                shown |= {(each.job_id, status_of(each)) for each in await subscription.take(LONG_SECONDS)}


async def test_a_closed_subscription_leaves_nothing_behind(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.subscriptions.start()
        ticket = await now.ticket(await now.running(VIDEO))
        for _ in range(3):
            with now.parts.subscriptions.open([ticket]) as subscription, now.parts.subscriptions.open([ticket]):
                subscription.wake()
                assert len(await subscription.take(LONG_SECONDS)) == 1
                subscription.wake()
                assert await subscription.take(LONG_SECONDS) == []
        calls = now.store.calls.count("get_many")
        await asyncio.sleep(3 * POLL_SECONDS)
        assert now.store.calls.count("get_many") == calls


async def test_a_reply_of_the_store_does_not_undo_a_newer_event(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.subscriptions.start()
        job = await now.running(VIDEO)
        ticket = await now.ticket(job)
        with now.parts.subscriptions.open([ticket]) as subscription:
            await settled()
            await subscription.take(0.0)
            held = now.store.held_replies["get_many"] = asyncio.Event()
            now.parts.subscriptions.on_hint(None, True)
            await settled()
            now.converter.held[VIDEO].set()
            await settled()
            held.set()
            shown: list[Snapshot] = []
            while not shown or status_of(shown[-1]) is not Status.COMPLETED:
                shown += await subscription.take(LONG_SECONDS)
            shown += await subscription.take(2 * POLL_SECONDS)
            statuses = [status_of(snapshot) for snapshot in shown]
            assert statuses == sorted(statuses, key=[Status.PROCESSING, Status.COMPLETED].index)
