"""`python -m scripts.webhooks`: webhooks while endpoints fail by the thousand, and while the service is killed.

Part 1: 10,000 deliveries to endpoints that never answer, refuse connections, redirect, or have a private address. It
prints how long the store's operations take meanwhile, which conversions wait for, beside the same without deliveries.
The two are measured in turns, so that other work of the machine affects both.
Every message to a healthy endpoint must arrive, and no request may reach the target of the redirects.

Part 2: a process that ends jobs and sends their messages is killed (SIGKILL) at random moments. At the end, every job
must have been reported, each with one `webhook-id`.
"""

import argparse
import asyncio
import contextlib
import ipaddress
import itertools
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from msgspec.structs import replace

from scripts.bench.measure import p99
from tests.contract.harness import Ids, done
from tests.http.webhook_servers import Receiver, raw_server, receiver
from tests.stand.ports import free_port
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.core.ids import ClientId, InstanceId
from ytmp3.core.webhook import WebhookEvent
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.http.addresses import Addresses
from ytmp3.http.webhook_messages import JobMessages
from ytmp3.jobstore import JobStore, Submission
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.settings import Policy, RedisTimeouts
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.webhooks.endpoints import Endpoints, parse_endpoints
from ytmp3.webhooks.sender import WebhookSender
from ytmp3.webhooks.settings import PrivateHosts
from ytmp3.webhooks.signature import new_secret
from ytmp3.webhooks.transport import HttpTransport

POLICY: Final = Policy(lease_seconds=30.0, retention_seconds=86_400.0, crash_limit=3)
SECRET: Final = new_secret(b"s" * 32)
PRIVATE_HOSTS: Final = PrivateHosts(networks=(ipaddress.ip_network("127.0.0.1"),))
OPERATION_PAUSE_SECONDS: Final = 0.02
"""Pause between two measured conversions: about 30 a second, which is far more than two cores convert."""
FILLED_AT_ONCE: Final = 50
"""Conversions that end at once before the measurement. They share transactions, so that 10,000 take seconds."""
PAIRS: Final = 5
"""How many times the operations are measured without deliveries, and then with them."""
HEALTHY_SECONDS: Final = 2.0
"""Interval, in seconds, between the messages to the healthy endpoint."""
CLEAN_UP_SECONDS: Final = 300.0
"""Longest wait, in seconds, for the last messages. It is longer than a lease of the sender."""
JOB_ID_CHARACTERS: Final = 34
LIFE_SECONDS: Final = (0.3, 3.0)
"""A process of part 2 is killed between these times, in seconds, after its first job."""


class Times(NamedTuple):
    """How long the operations on one conversion took."""

    submit_seconds: float
    """A `POST /extract` waits for this one."""
    whole_seconds: float
    """Submit, claim and finish."""


def endpoints_of(file: str) -> Endpoints:
    return Endpoints(parse_endpoints(file, PRIVATE_HOSTS), PRIVATE_HOSTS)


def submission_for(ids: Ids, video: int, endpoints: Endpoints, owner: str) -> Submission:
    client = ClientId(f"key:{owner}")
    return replace(ids.submission(video, client=client), webhooks=endpoints.targets(client))


@contextlib.asynccontextmanager
async def sending(store: JobStore, endpoints: Endpoints, outcomes: Counter[str]) -> AsyncIterator[None]:
    """Run a sender with the real network, and count what happens."""

    def count(event: events.Event) -> None:
        match event:
            case events.WebhookSent(cause=cause):
                outcomes[cause or "accepted"] += 1
            case events.WebhookDropped(reason=reason):
                outcomes[f"dropped ({reason})"] += 1
            case _:
                pass

    messages = JobMessages(store, Addresses())
    async with HttpTransport(PRIVATE_HOSTS) as transport:
        sender = WebhookSender(
            outbox=store.outbox,
            endpoints=endpoints,
            messages={WebhookEvent.JOB_COMPLETED: messages, WebhookEvent.JOB_FAILED: messages},
            transport=transport,
            events=Events(count),
        )
        sender.start()
        try:
            yield
        finally:
            await sender.close()


# Part 1


async def operation_times(store: JobStore, ids: Ids, videos: Iterator[int], seconds: float) -> list[Times]:
    """Return how long it takes to submit, claim and finish a conversion, for some time one after the other."""
    times: list[Times] = []
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        submission = ids.submission(next(videos))
        began_at = time.monotonic()
        await store.submit(submission, may_create=True)
        submit_seconds = time.monotonic() - began_at
        # A repeated submission finds the job, so this adds one reading operation to claim and finish.
        await done(store, submission)
        times.append(Times(submit_seconds, time.monotonic() - began_at))
        await asyncio.sleep(OPERATION_PAUSE_SECONDS)
    return times


def described(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds) * 1000:.1f} ms, p99 {p99(seconds) * 1000:.1f} ms"


def compare(without: list[Times], with_them: list[Times]) -> None:
    """Print both, and their ratios."""
    for name in Times._fields:
        pair = [[getattr(each, name) for each in times] for times in (without, with_them)]
        medians, tails = ([of(seconds) for seconds in pair] for of in (statistics.median, p99))
        print(f"  {name.removesuffix('_seconds')}: without deliveries {described(pair[0])}; with {described(pair[1])}")
        print(f"    ratio: median {medians[1] / medians[0]:.2f}, p99 {tails[1] / tails[0]:.2f} ({len(pair[1])} each)")


def has(endpoint: Receiver, count: int) -> bool:
    return len(endpoint.messages) >= count


async def never_answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass


async def failing(store: JobStore, deliveries: int, seconds: float) -> None:
    """Run part 1 on one store."""
    ids, outcomes = Ids(), Counter[str]()
    async with (
        raw_server(never_answer) as dead,
        raw_server() as elsewhere,
        receiver() as healthy,
        receiver() as redirecting,
    ):
        redirecting.status = 307
        redirecting.location = f"http://127.0.0.1:{elsewhere.port}/"
        kinds = {
            "dead": f"http://127.0.0.1:{dead.port}/",
            "closed": f"http://127.0.0.1:{free_port()}/",
            "redirect": redirecting.url,
            "private": "https://10.255.255.1/",
        }
        lines = [f"{name} {name} {url} {SECRET}" for name, url in kinds.items()]
        endpoints = endpoints_of("\n".join([*lines, f"healthy healthy {healthy.url} {SECRET}"]))
        owners = list(kinds)
        for first in range(0, deliveries, FILLED_AT_ONCE):
            numbers = range(first, min(first + FILLED_AT_ONCE, deliveries))
            submissions = [submission_for(ids, number, endpoints, owners[number % len(owners)]) for number in numbers]
            await asyncio.gather(*(done(store, submission) for submission in submissions))
        without: list[Times] = []
        with_them: list[Times] = []
        waits: list[float] = []
        measured, reported_ones = itertools.count(10**5), itertools.count(3 * 10**5)
        for _ in range(PAIRS):
            without += await operation_times(store, ids, measured, seconds / PAIRS)
            async with sending(store, endpoints, outcomes):
                measuring = asyncio.create_task(operation_times(store, ids, measured, seconds / PAIRS))
                while not measuring.done():
                    await done(store, submission_for(ids, next(reported_ones), endpoints, "healthy"))
                    began_at = time.monotonic()
                    await until(partial(has, healthy, len(waits) + 1), "the healthy endpoint has the message")
                    waits.append(time.monotonic() - began_at)
                    await asyncio.sleep(max(0.0, HEALTHY_SECONDS - waits[-1]))
                with_them += await measuring
        assert elsewhere.connections == 0, "a redirect was followed"
        compare(without, with_them)
        print(f"  requests: {dict(outcomes)}; dead endpoint: {dead.connections} connections")
        print(f"  {len(waits)} messages to the healthy endpoint, each within {max(waits):.1f} s", flush=True)


async def run_failing(folder: Path, deliveries: int, seconds: float) -> None:
    """Run part 1 on both stores."""
    print("SQLite", flush=True)
    embedded = SqliteJobStore(folder / "failing.sqlite3", POLICY, InstanceId("a"))
    await embedded.open()
    try:
        await failing(embedded, deliveries, seconds)
    finally:
        await embedded.close()
    server = Valkey(folder)
    server.start()
    try:
        print("Valkey", flush=True)
        # On a machine that measures or tests something else meanwhile, a reply may take longer than it usually does.
        timeouts = RedisTimeouts(handler_seconds=5.0, worker_seconds=10.0)
        shared = RedisJobStore(RedisSettings(address=server.address), POLICY, InstanceId("a"), timeouts=timeouts)
        await shared.open()
        try:
            await failing(shared, deliveries, seconds)
        finally:
            await shared.close()
    finally:
        server.stop()


# Part 2


async def live(folder: Path, port: int, number: int, *, makes_jobs: bool) -> None:
    """Be the process that is killed: end jobs, one after the other, and send their messages."""
    store = SqliteJobStore(folder / "killed.sqlite3", POLICY, InstanceId(f"i{number}"))
    await store.open()
    endpoints, ids = endpoints_of(f"home * http://127.0.0.1:{port}/ {SECRET}"), Ids(first=number * 10**6)
    async with sending(store, endpoints, Counter()):
        with (folder / "ended").open("a", buffering=1) as ended:
            for video in itertools.count(number * 10_000) if makes_jobs else ():
                submission = submission_for(ids, video, endpoints, "home")
                await done(store, submission)
                ended.write(f"{submission.job_id}\n")
                await asyncio.sleep(0.005)
        await asyncio.Event().wait()


async def killed(folder: Path, port: int, number: int) -> None:
    """Start such a process, and kill it at a random moment."""
    process = await start(folder, port, number)
    size_bytes = ended_bytes(folder)
    await until(lambda: ended_bytes(folder) > size_bytes, "a job has ended")
    await asyncio.sleep(random.uniform(*LIFE_SECONDS))
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def start(folder: Path, port: int, number: int, *options: str) -> asyncio.subprocess.Process:
    words = ("-m", "scripts.webhooks", "--live", str(folder), str(port), str(number), *options)
    return await asyncio.create_subprocess_exec(sys.executable, *words)


def ended_bytes(folder: Path) -> int:
    path = folder / "ended"
    return path.stat().st_size if path.exists() else 0


def reported(endpoint: Receiver) -> Counter[str]:
    return Counter(message.headers["webhook-id"] for message in endpoint.messages)


async def run_kills(folder: Path, kills: int) -> None:
    """Run part 2."""
    async with receiver() as endpoint:
        for number in range(kills):
            await killed(folder, endpoint.port, number)
        # A kill may cut the last line short, or come between the end of a job and its line.
        lines = (folder / "ended").read_text().splitlines()
        wanted = {f"{line}-0" for line in lines if len(line) == JOB_ID_CHARACTERS}
        last = await start(folder, endpoint.port, kills, "--only-send")
        await until(lambda: wanted <= reported(endpoint).keys(), "every job is reported", seconds=CLEAN_UP_SECONDS)
        last.terminate()
        await last.wait()
        arrived = reported(endpoint)
    twice = sum(count > 1 for count in arrived.values())
    print(f"{kills} kills: {len(wanted)} jobs ended, all reported; {twice} of them more than once", flush=True)


def main() -> None:
    """Run both parts, or be a process of part 2."""
    parser = argparse.ArgumentParser(prog="python -m scripts.webhooks", description=__doc__)
    parser.add_argument("--deliveries", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each state of part 1 is measured")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--live", nargs=3, metavar=("FOLDER", "PORT", "NUMBER"), help=argparse.SUPPRESS)
    parser.add_argument("--only-send", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.live:
        folder, port, number = options.live
        asyncio.run(live(Path(folder), int(port), int(number), makes_jobs=not options.only_send))
        return
    with tempfile.TemporaryDirectory(prefix="ytmp3-webhooks-") as name:
        if options.deliveries:
            asyncio.run(run_failing(Path(name), options.deliveries, options.seconds))
        if options.kills:
            asyncio.run(run_kills(Path(name), options.kills))


if __name__ == "__main__":
    main()
