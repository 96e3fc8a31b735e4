"""The sender of webhooks around the real embedded store, on virtual time. Only the network is a fake.

The loop of the sender does not run: a test calls its turns at the times at which something is due, because a schedule
of hours has tens of thousands of turns.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tests.contract.harness import Ids, done
from tests.engine.rig import LEASE_SECONDS, RETENTION_SECONDS, StoreClock
from tests.fakes import FaultyStore
from tests.virtual_time import seconds, settled
from ytmp3.core.errors import StoreError
from ytmp3.core.ids import ClientId, InstanceId, JobId
from ytmp3.core.webhook import Delivery, DeliveryState, Reason, WebhookEvent
from ytmp3.engine import events
from ytmp3.engine.event_log import log_event
from ytmp3.engine.events import Events
from ytmp3.http.addresses import Addresses
from ytmp3.http.webhook_messages import JobMessages
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.webhooks.endpoints import Endpoints, parse_endpoints
from ytmp3.webhooks.sender import Outside, WebhookSender
from ytmp3.webhooks.settings import PrivateHosts
from ytmp3.webhooks.signature import new_secret
from ytmp3.webhooks.transport import Reply

SECRET_BYTES: Final = b"s" * 32
SECRET: Final = new_secret(SECRET_BYTES)
FILE: Final = f"shop * https://shop.example/hook {SECRET}\n"
CLIENT: Final = "key:alice"
ACCEPTED: Final = Reply(status=204, reason=None)
BROKEN: Final = Reply(status=500, reason=Reason.STATUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request."""

    at: float
    url: str
    headers: dict[str, str]
    body: bytes


class FakeTransport:
    """Accepts every message, unless a test has set other replies for the address."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.replies: defaultdict[str, deque[Reply]] = defaultdict(deque)
        """The replies to the next requests, by URL."""
        self.always: dict[str, Reply] = {}
        """The reply to every request to a URL, once `replies` has none."""
        self.delay_seconds: dict[str, float] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.active: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Reply:
        self.sent.append(Sent(at=seconds(), url=url, headers=headers, body=body))
        self.active[url] += 1
        self.most_at_once[url] = max(self.most_at_once[url], self.active[url])
        try:
            if url in self.held:
                await self.held[url].wait()
            await asyncio.sleep(self.delay_seconds.get(url, 0.0))
        finally:
            self.active[url] -= 1
        return self.replies[url].popleft() if self.replies[url] else self.always.get(url, ACCEPTED)

    def ids(self, url: str | None = None) -> list[str]:
        """Return the `webhook-id` of each request, in order."""
        return [sent.headers["webhook-id"] for sent in self.sent if url in {None, sent.url}]


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderRig:
    """One instance's sender."""

    sender: WebhookSender
    endpoints: Endpoints
    store: FaultyStore
    """The store as the sender reaches it."""
    records: FaultyStore
    transport: FakeTransport
    clock: StoreClock
    happened: list[events.Event]
    ids: Ids

    async def job(self, video: int = 1, url: str | None = None) -> JobId:
        """Return a job that has just been completed."""
        submission = self.ids.submission(video, client=CLIENT)
        submission = replace(submission, webhooks=self.endpoints.targets(ClientId(CLIENT), url))
        await done(self.records, submission)
        return submission.job_id

    async def turn(self) -> None:
        """Do what the loop does, and return when nothing happens before time passes."""
        try:
            await self.sender.turn()
        except StoreError as error:
            self.happened.append(events.StoreFailed(operation="webhooks", error=error))
        await settled()

    async def ended(self, job_id: JobId) -> DeliveryState:
        """Let time pass until the only delivery of a job has ended."""
        deadline = seconds() + 24 * RETENTION_SECONDS
        while (delivery := await self.delivery(job_id)).state is DeliveryState.PENDING:
            assert seconds() < deadline, "the delivery does not end"
            await asyncio.sleep(max(0.0, delivery.due_at - self.clock()))
            await self.turn()
        return delivery.state

    async def delivery(self, job_id: JobId) -> Delivery:
        (delivery,) = await self.records.outbox.of(job_id)
        return delivery


@asynccontextmanager
async def sender(
    folder: Path,
    file: str = FILE,
    *,
    instance: str = "a",
    clock: StoreClock | None = None,
    transport: FakeTransport | None = None,
    ids: Ids | None = None,
) -> AsyncIterator[SenderRig]:
    """Start an instance's sender on the store in `folder`."""
    clock = StoreClock() if clock is None else clock
    transport = FakeTransport() if transport is None else transport
    policy = Policy(lease_seconds=LEASE_SECONDS, retention_seconds=24 * RETENTION_SECONDS, crash_limit=3)
    sqlite = SqliteJobStore(folder / "jobs.sqlite3", policy, InstanceId(instance), clock=clock, lock_wait_seconds=0.0)
    await sqlite.open()
    store, records = FaultyStore(sqlite), FaultyStore(sqlite)
    happened: list[events.Event] = []
    endpoints = Endpoints(parse_endpoints(file, PrivateHosts()))
    messages = JobMessages(records, Addresses(public_path="https://music.example"))
    made = WebhookSender(
        outbox=store.outbox,
        endpoints=endpoints,
        messages={WebhookEvent.JOB_COMPLETED: messages, WebhookEvent.JOB_FAILED: messages},
        transport=transport,
        events=Events(log_event, happened.append),
        outside=Outside(monotonic=seconds, wall=clock, random=lambda: 0.0),
    )
    try:
        yield SenderRig(
            sender=made,
            endpoints=endpoints,
            store=store,
            records=records,
            transport=transport,
            clock=clock,
            happened=happened,
            ids=Ids() if ids is None else ids,
        )
    finally:
        await made.close()
        await records.close()
