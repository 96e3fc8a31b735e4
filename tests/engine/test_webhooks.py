"""The sender of webhooks: the schedule, ends, crashes between a request and its result, endpoints that do not work."""

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from tests.core.test_webhook_signature import verified
from tests.engine.sender_rig import ACCEPTED, BROKEN, FILE, SECRET, SECRET_BYTES, sender
from tests.fakes import Fault
from ytmp3.core.webhook import RETRY_SECONDS, DeliveryState, Reason
from ytmp3.engine import events
from ytmp3.webhooks.endpoints import parse_endpoints
from ytmp3.webhooks.pace import FIRST_PAUSE_SECONDS, MAX_AHEAD_SECONDS, MAX_AT_ONCE, MAX_PAUSE_SECONDS
from ytmp3.webhooks.sender import LEASE_SECONDS, MAX_REQUESTS, POLL_SECONDS
from ytmp3.webhooks.settings import PrivateHosts
from ytmp3.webhooks.transport import Reply

URL = "https://shop.example/hook"
DAY_SECONDS = 86_400.0


async def test_a_message_is_the_signed_job_with_whole_addresses(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        job_id = await rig.job()
        assert await rig.ended(job_id) is DeliveryState.DELIVERED
        (sent,) = rig.transport.sent
        assert sent.url == URL
        assert sent.headers["webhook-id"] == f"{job_id}-0"
        assert verified(sent.headers, sent.body, SECRET_BYTES)
        message = json.loads(sent.body)
        assert set(message) == {"type", "timestamp", "data"}
        assert message["type"] == "job.completed"
        assert message["data"]["job_id"] == job_id
        assert message["data"]["status"] == "completed"
        assert message["data"]["download_url"] == f"https://music.example/download/{job_id}.mp3"
        assert message["data"]["status_url"] == f"https://music.example/status/{job_id}"
        (event,) = (event for event in rig.happened if isinstance(event, events.WebhookSent))
        assert (event.cause, event.settlement.status) == (None, 204)


async def test_a_failing_endpoint_is_tried_by_the_schedule_with_one_id(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.transport.always[URL] = BROKEN
        job_id = await rig.job()
        assert await rig.ended(job_id) is DeliveryState.FAILED
        assert rig.transport.ids() == [f"{job_id}-0"] * (1 + len(RETRY_SECONDS))
        times = [sent.at for sent in rig.transport.sent]
        waits = [later - earlier for earlier, later in itertools.pairwise(times)]
        for wait, expected in zip(waits, RETRY_SECONDS, strict=True):
            assert wait == pytest.approx(expected, abs=0.01)
        delivery = await rig.delivery(job_id)
        assert (delivery.attempts, delivery.reason, delivery.status) == (len(times), Reason.EXHAUSTED, 500)
        timestamps = [int(sent.headers["webhook-timestamp"]) for sent in rig.transport.sent]
        assert timestamps == sorted(timestamps)
        assert len(set(timestamps)) == len(timestamps)
        assert all(verified(sent.headers, sent.body, SECRET_BYTES) for sent in rig.transport.sent)


async def test_no_attempt_is_made_once_the_track_has_expired(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.transport.replies[URL].append(BROKEN)
        job_id = await rig.job()
        await rig.turn()
        rig.clock.advance(DAY_SECONDS + 1)
        assert await rig.ended(job_id) is DeliveryState.FAILED
        assert (await rig.delivery(job_id)).reason is Reason.EXPIRED
        assert len(rig.transport.sent) == 1


async def test_an_attempt_that_would_come_after_the_expiry_is_not_scheduled(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.transport.always[URL] = BROKEN
        rig.transport.held[URL] = asyncio.Event()
        job_id = await rig.job()
        await rig.turn()
        ticket = await rig.records.get(job_id)
        assert ticket is not None
        assert ticket.conversion.expires_at is not None
        rig.transport.held[URL].set()
        assert await rig.ended(job_id) is DeliveryState.FAILED
        assert rig.clock() <= ticket.conversion.expires_at


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
@pytest.mark.parametrize("call", ["take", "settle"])
async def test_a_crash_around_a_request_loses_no_message_and_keeps_its_id(
    tmp_path: Path, call: str, fault: Fault
) -> None:
    async with sender(tmp_path) as dead:
        # The first call of this kind crashes the instance.
        dead.store.faults[1 if call == "take" else 2] = fault
        job_id = await dead.job()
        await dead.turn()
        assert dead.store.crashed.is_set()
        assert dead.store.calls[-1] == call
    sent_before = len(dead.transport.sent)
    async with sender(tmp_path, instance="b", clock=dead.clock, transport=dead.transport, ids=dead.ids) as heir:
        await heir.turn()
        assert await heir.ended(job_id) is DeliveryState.DELIVERED
        expected = 1 if (call, fault) == ("settle", Fault.CRASH_AFTER) or sent_before == 0 else 2
        assert heir.transport.ids() == [f"{job_id}-0"] * expected


async def test_a_result_is_stored_once_the_store_is_back(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.store.faults = {2: Fault.REFUSED, 3: Fault.LOST_REPLY}
        job_id = await rig.job()
        assert await rig.ended(job_id) is DeliveryState.DELIVERED
        await asyncio.sleep(2 * LEASE_SECONDS)
        await rig.turn()
        assert len(rig.transport.sent) == 1


async def test_an_endpoint_that_answers_gone_gets_no_more_messages_until_the_file_is_read_again(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.transport.replies[URL].append(Reply(status=410, reason=Reason.GONE))
        first = await rig.job(1)
        assert await rig.ended(first) is DeliveryState.FAILED
        second = await rig.job(2)
        assert await rig.ended(second) is DeliveryState.FAILED
        assert {(await rig.delivery(job_id)).reason for job_id in (first, second)} == {Reason.GONE}
        assert len(rig.transport.sent) == 1
        rig.sender.replace_endpoints(parse_endpoints(FILE, PrivateHosts()))
        await rig.records.outbox.redeliver((await rig.delivery(second)).delivery_id)
        assert await rig.ended(second) is DeliveryState.DELIVERED


async def test_an_endpoint_that_asks_for_a_wait_gets_it(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.transport.replies[URL].append(Reply(status=429, reason=Reason.STATUS, retry_after_seconds=120.0))
        job_id = await rig.job()
        assert await rig.ended(job_id) is DeliveryState.DELIVERED
        first, second = (sent.at for sent in rig.transport.sent)
        assert 120.0 <= second - first <= 120.01


async def test_a_message_to_an_endpoint_that_was_removed_fails(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.transport.replies[URL].append(BROKEN)
        job_id = await rig.job()
        await rig.turn()
        rig.sender.replace_endpoints(parse_endpoints(f"other * https://other.example/ {SECRET}\n", PrivateHosts()))
        assert await rig.ended(job_id) is DeliveryState.FAILED
        assert (await rig.delivery(job_id)).reason is Reason.ENDPOINT
        assert len(rig.transport.sent) == 1


async def test_a_message_is_not_sent_to_an_endpoint_that_now_belongs_to_another_client(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.transport.replies[URL].append(BROKEN)
        job_id = await rig.job()
        await rig.turn()
        rig.sender.replace_endpoints(parse_endpoints(FILE.replace(" * ", " bob "), PrivateHosts()))
        assert await rig.ended(job_id) is DeliveryState.FAILED
        assert (await rig.delivery(job_id)).reason is Reason.ENDPOINT
        assert len(rig.transport.sent) == 1


async def test_a_job_that_was_cancelled_before_its_message_is_not_reported(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.transport.replies[URL].append(BROKEN)
        job_id = await rig.job()
        await rig.turn()
        await rig.records.cancel(job_id)
        assert await rig.ended(job_id) is DeliveryState.FAILED
        assert (await rig.delivery(job_id)).reason is Reason.SUBJECT
        assert len(rig.transport.sent) == 1


async def test_a_request_may_name_the_address_where_the_file_allows_it(tmp_path: Path) -> None:
    async with sender(tmp_path, f"asked alice * {SECRET}\n") as rig:
        job_id = await rig.job(1, "https://named.example/x")
        assert await rig.ended(job_id) is DeliveryState.DELIVERED
        assert [sent.url for sent in rig.transport.sent] == ["https://named.example/x"]


async def test_many_messages_to_a_dead_endpoint_hold_up_neither_others_nor_the_store(tmp_path: Path) -> None:
    """A small run of scripts/webhooks.py: the dead endpoint's requests take their whole time, the other's none."""
    other = "https://other.example/"
    file = f"shop alice {URL} {SECRET}\nother * {other} {SECRET}\n"
    async with sender(tmp_path, file) as rig:
        rig.transport.delay_seconds[URL] = 15.0
        rig.transport.always[URL] = Reply(status=None, reason=Reason.TIMEOUT)
        jobs = [await rig.job(number) for number in range(1, 41)]
        rig.sender.start()
        await asyncio.sleep(30.0)
        assert sorted(rig.transport.ids(other)) == sorted(f"{job_id}-1" for job_id in jobs)
        assert rig.transport.most_at_once[URL] <= MAX_AT_ONCE < MAX_REQUESTS
        earlier = len(rig.store.calls)
        await asyncio.sleep(10 * FIRST_PAUSE_SECONDS)
        assert len(rig.transport.ids(URL)) < len(jobs), "the endpoint is paused"
        # The calls of the polls, and a few for each delivery.
        assert len(rig.store.calls) - earlier < 10 * FIRST_PAUSE_SECONDS / POLL_SECONDS + 20 * len(jobs)
        rig.transport.delay_seconds.clear()
        rig.transport.always[URL] = ACCEPTED
        await asyncio.sleep(MAX_PAUSE_SECONDS + MAX_AHEAD_SECONDS)
        assert set(rig.transport.ids(URL)) == {f"{job_id}-0" for job_id in jobs}
        for job_id in jobs:
            states = {delivery.state for delivery in await rig.records.outbox.of(job_id)}
            assert states == {DeliveryState.DELIVERED}


async def test_a_request_under_way_may_end_while_the_instance_stops(tmp_path: Path) -> None:
    async with sender(tmp_path) as rig:
        rig.transport.delay_seconds[URL] = 2.0
        job_id = await rig.job()
        await rig.turn()
        assert rig.transport.active[URL] == 1
        await rig.sender.close()
        assert (await rig.delivery(job_id)).state is DeliveryState.DELIVERED


async def test_nothing_is_read_from_the_store_without_endpoints(tmp_path: Path) -> None:
    async with sender(tmp_path, "") as rig:
        rig.sender.start()
        await asyncio.sleep(100 * POLL_SECONDS)
        assert rig.store.calls == []
