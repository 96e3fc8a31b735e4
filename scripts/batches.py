"""`python -m scripts.batches`: batches while instances are killed, and archives that are read from any byte on.

Part 1: instances on one Valkey feed 20 batches of 50 links. One of them after the other is killed (SIGKILL) at a random
moment, and replaced. At the end every item must be completed, with one job and one published track for each video, and
a webhook endpoint must have been told about each batch, always with the same `webhook-id`. Only YouTube and ffmpeg are
replaced, by a converter that takes a fraction of a second.

Part 2: 10,000 random ranges of an archive must equal the slices of the whole; and an archive of sparse tracks with more
than 4 GiB is read by Python's zipfile, from ranges alone.
"""

import argparse
import asyncio
import dataclasses
import io
import os
import random
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.contract.harness import PATIENT
from tests.fakes import FakeConverter
from tests.http.webhook_servers import Receiver, receiver
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.app import running
from ytmp3.config import load
from ytmp3.converter import Converted
from ytmp3.core.batch import Batch, Mark, counts_of, first_marks, items_of
from ytmp3.core.ids import ClientId, InstanceId, VideoId, new_batch_id
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.core.webhook import WebhookTarget, batch_subject, delivery_id
from ytmp3.core.zip_layout import Bytes, Entry, Layout
from ytmp3.jobstore.batches import NewBatch
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.settings import Policy
from ytmp3.webhooks.signature import new_secret

POLICY: Final = Policy(lease_seconds=2.0, retention_seconds=86_400.0, crash_limit=1000)
"""Short leases, so that a killed instance is replaced soon; and no conversion is given up for the kills."""
INSTANCES: Final = 3
LIFE_SECONDS: Final = (0.2, 2.0)
"""An instance is killed between these times after the last kill."""
CONVERSION_SECONDS: Final = (0.2, 1.5)
CLEAN_UP_SECONDS: Final = 600.0
ENDPOINT: Final = "home"


class SlowConverter(FakeConverter):
    """Takes some time for each video, and writes down each that it has converted."""

    def __init__(self, converted: Path) -> None:
        super().__init__()
        self._file = converted.open("a", buffering=1)

    async def convert(self, video_id: str, *arguments: Any) -> Converted:
        await asyncio.sleep(random.uniform(*CONVERSION_SECONDS))
        result = await super().convert(video_id, *arguments)
        self._file.write(f"{video_id}\n")
        return result


async def live(folder: Path, address: str) -> None:
    """Be an instance, until it is killed."""
    settings = {
        "DATA_DIR": str(folder / "data"),
        "REDIS_ADDR": address,
        "WORKER_POOL_SIZE": "2",
        "WEBHOOKS_FILE": str(folder / "webhooks"),
        "WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
    }
    config = dataclasses.replace(load(settings), store=POLICY)
    async with running(config, lambda *_: SlowConverter(folder / "converted")):
        await asyncio.Event().wait()


async def start(folder: Path, address: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.batches", "--live", str(folder), "--address", address,
        stdout=asyncio.subprocess.DEVNULL, stderr=(folder / "log").open("a"),
    )  # fmt: skip


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()


async def killed(folder: Path, kills: int, batches: int, items: int) -> None:
    """Run part 1."""
    async with receiver() as endpoint:
        (folder / "webhooks").write_text(f"{ENDPOINT} * {endpoint.url} {new_secret(os.urandom(32))}\n")
        await _killed(folder, kills, batches, items, endpoint)


async def _killed(folder: Path, kills: int, batches: int, items: int, endpoint: Receiver) -> None:
    server = Valkey(folder)
    await asyncio.to_thread(server.start)
    store = RedisJobStore(RedisSettings(address=server.address), POLICY, InstanceId("watcher"), timeouts=PATIENT)
    processes = [await start(folder, server.address) for _ in range(INSTANCES)]
    try:
        await store.open()
        created = [await _create(store, number, items) for number in range(batches)]
        began_at, done = time.monotonic(), 0
        while done < kills and not all([await _has_ended(store, batch) for batch in created]):
            await asyncio.sleep(random.uniform(*LIFE_SECONDS))
            place = random.randrange(INSTANCES)
            await end(processes[place])
            processes[place] = await start(folder, server.address)
            done += 1
        deadline = time.monotonic() + CLEAN_UP_SECONDS
        while not all([await _has_ended(store, batch) for batch in created]):
            assert time.monotonic() < deadline, "the batches do not end"
            await asyncio.sleep(0.5)
        print(f"  {done} kills in {time.monotonic() - began_at:.0f} s", flush=True)
        await _check(folder, store, created, items)
        await _check_messages(endpoint, created)
    finally:
        for process in processes:
            await end(process)
        await store.close()
        server.stop()


async def _create(store: RedisJobStore, number: int, items: int) -> Batch:
    lines = items_of(f"v{number:04d}x{index:05d}" for index in range(items))
    new = NewBatch(
        batch_id=new_batch_id(os.urandom(17)),
        client=ClientId(f"addr:192.0.2.{number % 5}"),
        recipe=DEFAULT_RECIPE,
        marks=first_marks(lines),
        items=lines,
        webhooks=(WebhookTarget(endpoint=ENDPOINT),),
    )
    batch = await store.batches.create(new)
    assert isinstance(batch, Batch), batch
    return batch


async def _check_messages(endpoint: Receiver, created: list[Batch]) -> None:
    """Check that each batch was reported, with one id. A message whose sender was killed comes after its lease."""
    wanted = {delivery_id(batch_subject(batch.batch_id), 0) for batch in created}

    def arrived() -> Counter[str]:
        return Counter(message.headers["webhook-id"] for message in endpoint.messages)

    await until(lambda: wanted <= arrived().keys(), "every batch is reported", seconds=CLEAN_UP_SECONDS)
    assert arrived().keys() == wanted, "a batch was reported with another id"
    more = sum(count > 1 for count in arrived().values())
    print(f"  {len(wanted)} batches reported, each with one webhook-id; {more} of them more than once")


async def _has_ended(store: RedisJobStore, batch: Batch) -> bool:
    stored = await store.batches.get(batch.batch_id)
    return stored is not None and stored.completed_at is not None


async def _check(folder: Path, store: RedisJobStore, created: list[Batch], items: int) -> None:
    """Check that no item was lost and none was converted twice."""
    conversions: Counter[VideoId] = Counter()
    for batch in created:
        stored = await store.batches.get(batch.batch_id)
        assert stored is not None
        assert counts_of(stored.marks) == {Mark.COMPLETED: items}, counts_of(stored.marks)
        lines = await store.batches.items(batch.batch_id)
        job_ids = [batch.job_id(item) for item in lines if item.video_id is not None]
        tickets = (await store.get_many(job_ids)).tickets
        assert len(tickets) == items, "an item has no job"
        for ticket in tickets.values():
            track = ticket.conversion.track
            assert track is not None
            assert (folder / "data" / "tracks" / track.file_name).stat().st_size == track.size_bytes
            conversions[ticket.conversion.video_id] += 1
    counts = await store.counts()
    total = len(created) * items
    assert counts.completed == total == len(conversions), counts
    attempts = Counter((folder / "converted").read_text().split())
    again = sum(count - 1 for count in attempts.values())
    print(f"  {total} items: {counts.completed} completed, one job each; tracks published: {total}")
    print(f"  attempts that a kill cut off between encoding and recording, and that were repeated: {again}")


def ranges(count: int) -> None:
    """Compare random ranges of an archive with the slices of the whole."""
    chance = random.Random(7)
    contents = [chance.randbytes(chance.randrange(0, 30_000)) for _ in range(200)]
    layout = Layout([_entry(f"{number:03d}.mp3", len(content)) for number, content in enumerate(contents)])

    def part(first: int, last: int) -> bytes:
        return b"".join(
            each.content if isinstance(each, Bytes) else contents[each.entry][each.offset : each.offset + each.count]
            for each in layout.parts(first, last)
        )

    whole = part(0, layout.size_bytes - 1)
    assert len(whole) == layout.size_bytes
    for _ in range(count):
        first, last = sorted(chance.randrange(layout.size_bytes) for _ in range(2))
        assert part(first, last) == whole[first : last + 1], (first, last)
    print(f"  {count} random ranges equal the slices of the whole ({layout.size_bytes} bytes)")


def _entry(name: str, size: int) -> Entry:
    return Entry(name=name, size_bytes=size, crc32=0, modified_at=(2026, 11, 26, 0, 0, 0))


class _Sparse(io.RawIOBase):
    """An archive of zeros, read by ranges."""

    def __init__(self, layout: Layout) -> None:
        self._layout, self._at = layout, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._layout.size_bytes)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        end_at = self._layout.size_bytes if size < 0 else min(self._at + size, self._layout.size_bytes)
        parts = self._layout.parts(self._at, end_at - 1)
        content = b"".join(part.content if isinstance(part, Bytes) else bytes(part.count) for part in parts)
        self._at = end_at
        return content


def large() -> None:
    """Read an archive of more than 4 GiB."""
    layout = Layout([_entry(f"{number}.mp3", 900_000_000) for number in range(6)])
    with zipfile.ZipFile(_Sparse(layout)) as archive:
        assert [info.file_size for info in archive.infolist()] == [900_000_000] * 6
        assert archive.infolist()[-1].header_offset > 2**32
        with archive.open(archive.infolist()[-1]) as last:
            assert last.read(1000) == bytes(1000)
    print(f"  an archive of {layout.size_bytes} bytes is read")


async def main(arguments: argparse.Namespace) -> None:
    if arguments.live:
        await live(Path(arguments.live), arguments.address)
        return
    print("Archives", flush=True)
    ranges(arguments.ranges)
    large()
    print("Kills", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        await killed(Path(folder), arguments.kills, arguments.batches, arguments.items)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.batches", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--items", type=int, default=50)
    parser.add_argument("--ranges", type=int, default=10_000)
    parser.add_argument("--live", default="", help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    asyncio.run(main(parser.parse_args()))
