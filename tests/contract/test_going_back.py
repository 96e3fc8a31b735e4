"""A shared store that goes back in time while instances are at work: a replica is promoted that lacks the last writes.

FUZZ_FACTOR=20 python -m pytest tests/contract/test_going_back.py     100 rounds
"""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.contract.harness import METADATA, POLICY, Ids, RedisHarness, created, track_of
from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3.core.errors import LeaseLost
from ytmp3.core.ids import ConversionId, JobId
from ytmp3.core.job import Conversion, State
from ytmp3.jobstore import JobStore, Renewal
from ytmp3.storage import Description
from ytmp3.storage.local import LocalShelf

pytestmark = [pytest.mark.fuzz, pytest.mark.soak, pytest.mark.attack]

DESCRIPTION: Final = Description(content_type="audio/mpeg", content_disposition="attachment", sha256="")
ROUNDS: Final = 5 * FUZZ_FACTOR
VIDEOS: Final = 6


@dataclass
class Instance:
    """The part of an instance that matters here: workers that publish at any speed, and leave what others hold."""

    name: str
    store: JobStore
    folder: Path
    shelf: LocalShelf
    chance: random.Random
    publishers: defaultdict[str, set[str]]
    """Who has published under each name, over all instances."""
    in_hand: set[ConversionId] = field(default_factory=set)
    attempts: set[asyncio.Task[None]] = field(default_factory=set)

    async def work(self) -> None:
        """Adopt what is due, and begin an attempt at each, as the janitor and the workers do."""
        for conversion in await self.store.adopt(100):
            if conversion.conversion_id in self.in_hand:
                await self.store.release([conversion.lease])
            else:
                self.begin(conversion)

    def begin(self, conversion: Conversion) -> None:
        self.in_hand.add(conversion.conversion_id)
        self.attempts.add(asyncio.create_task(self.attempt(conversion)))

    async def attempt(self, conversion: Conversion) -> None:
        try:
            await self.make(await self.store.claim(conversion.lease))
        except LeaseLost:
            pass
        finally:
            self.in_hand.discard(conversion.conversion_id)

    async def make(self, claimed: Conversion) -> None:
        track = track_of(claimed.lease)
        await self.pause()
        if await self.store.renew([Renewal(lease=claimed.lease)]):
            return
        # The lease is confirmed, and now the disk takes its time: all may be over before the file is in place.
        await self.pause()
        draft = self.folder / f"{self.name}-{track.file_name}"
        draft.write_text(self.name)
        await self.shelf.publish(draft, track.file_name, DESCRIPTION)
        self.publishers[track.file_name].add(self.name)
        await self.pause()
        try:
            await self.store.finish(claimed.lease, track, METADATA)
        except LeaseLost:
            await self.shelf.delete(track.file_name)

    async def pause(self) -> None:
        for _ in range(self.chance.randrange(40)):
            await asyncio.sleep(0)

    async def end(self) -> None:
        await asyncio.gather(*self.attempts)
        self.attempts.clear()


async def round_of(seed: int, harness: RedisHarness, folder: Path) -> None:
    chance = random.Random(seed)
    shelf = LocalShelf(folder / "tracks")
    await shelf.open()
    publishers: defaultdict[str, set[str]] = defaultdict(set)
    instances = [Instance(name, await harness.open(name), folder, shelf, chance, publishers) for name in ("a", "b")]
    ids, jobs = Ids(), dict[JobId, ConversionId]()
    for video in range(VIDEOS):
        submission = ids.submission(video)
        jobs[submission.job_id] = (await created(instances[0].store, submission)).conversion_id

    async def some_turns(most: int) -> None:
        for _ in range(chance.randrange(most)):
            harness.clock.advance(chance.choice([1.0, POLICY.lease_seconds + 1]))
            await chance.choice(instances).work()
            await instances[0].pause()

    await some_turns(3)
    promote = harness.snapshot()
    await some_turns(4)
    promote()
    await some_turns(6)
    for _ in range(50):
        for instance in instances:
            await instance.end()
        harness.clock.advance(POLICY.lease_seconds + 1)
        await chance.choice(instances).work()
    for instance in instances:
        await instance.end()
    for job_id in jobs:
        ticket = await instances[0].store.get(job_id)
        assert ticket is not None, f"round {seed}"
        conversion = ticket.conversion
        assert conversion.state in {State.DONE, State.FAILED}, f"round {seed}"
        if conversion.track is not None:
            holder = (shelf.folder / conversion.track.file_name).read_text()
            assert publishers[conversion.track.file_name] == {holder}, f"round {seed}"
    assert all(len(names) == 1 for names in publishers.values()), f"round {seed}: two instances used one name"
    for instance in instances:
        await instance.store.close()


async def test_a_failover_that_loses_writes_loses_no_track(redis_harness: RedisHarness, tmp_path: Path) -> None:
    nothing = redis_harness.snapshot()
    for seed in range(ROUNDS):
        nothing()
        folder = tmp_path / f"round-{seed}"
        folder.mkdir()
        await round_of(seed, redis_harness, folder)
