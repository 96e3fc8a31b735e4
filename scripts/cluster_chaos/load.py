"""Clients of an installation: they submit new and repeated links at all instances, and poll the jobs."""

import asyncio
import contextlib
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from scripts.cluster_chaos.installation import INSTANCES, Installation
from tests.fake_youtube import Kind, video_id, watch_url
from tests.stand.service_process import END_STATES
from tests.stand.waiting import until

KINDS: Final = (Kind.SHORT, Kind.M4A, Kind.MP3)
"""Videos of 4 s."""
NEW_SHARE: Final = 0.4
"""The part of the links that were not submitted before."""
REQUEST_SECONDS: Final = 30.0
"""Timeout of one request. The service answers within a second; an instance that is killed closes its connections."""


def video_numbers() -> Iterator[str]:
    """Yield the ids of videos that no installation of this process has converted."""
    for number in itertools.count(1):
        yield from (video_id(kind, number) for kind in KINDS)


@dataclass(slots=True, kw_only=True)
class Accepted:
    """A job whose POST was acknowledged."""

    job_id: str
    video: str
    sent_at: float
    """When the POST was sent, by the monotonic clock."""
    round: int
    status: str
    """As it was shown last."""
    completed_at: float = math.inf
    """When it was first shown as completed."""


@dataclass(slots=True, kw_only=True)
class Load:
    """The clients, and what they were told."""

    its: Installation
    client: ClientSession
    videos: Iterator[str]
    pause_seconds: float
    """Between two POSTs of all clients together."""
    most_unfinished: int
    """While more videos than this are not converted, only links that were submitted before are repeated."""
    chance: random.Random
    round: int = 0
    accepted: dict[str, Accepted] = field(default_factory=dict)
    """By job id, of all rounds."""
    refused: Counter[str] = field(default_factory=Counter)
    """POSTs that were refused, by code; `unreachable` if there was no response."""
    unknown: list[str] = field(default_factory=list)
    """The jobs that an instance did not know: one entry for each response 404."""
    reverted: list[str] = field(default_factory=list)
    """The jobs that were shown as completed, and then as unfinished."""
    unexpected: list[str] = field(default_factory=list)
    """Responses that no client should get."""
    polls: int = 0
    _submitted: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Apply the load until the block ends. An error of a client ends the block."""
        is_over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._submit_until(is_over, tasks))
            for _ in range(INSTANCES):
                tasks.create_task(self._poll_until(is_over))
            try:
                yield
            finally:
                is_over.set()

    async def more(self, count: int) -> None:
        """Return once so many more POSTs are acknowledged."""
        goal = len(self.accepted) + count
        await until(lambda: len(self.accepted) >= goal, "more jobs are accepted")

    def of_round(self) -> list[Accepted]:
        return [job for job in self.accepted.values() if job.round == self.round]

    async def status(self, job: Accepted, url: str) -> dict[str, Any] | None:
        """Ask one instance for a job. Returns None if there is no status: it is down, or does not know the job."""
        asked_at = time.monotonic()
        try:
            async with self.client.get(f"{url}/status/{job.job_id}") as response:
                body: dict[str, Any] = await response.json(content_type=None)
        except (ClientError, TimeoutError, ConnectionError, ValueError):
            return None
        self.polls += 1
        if response.status == 404:
            self.unknown.append(job.job_id)
            return None
        if response.status != 200:
            if response.status not in {502, 503, 504}:
                self.unexpected.append(f"GET /status: {response.status} {body}")
            return None
        self._note(job, body["status"], asked_at)
        return body

    def _note(self, job: Accepted, status: str, asked_at: float) -> None:
        """Record a status. Of two requests at once, the one that was sent first may be answered last."""
        if status == "completed":
            job.completed_at = min(job.completed_at, time.monotonic())
        elif job.completed_at < asked_at:
            self.reverted.append(job.job_id)
            job.completed_at = math.inf
        elif job.completed_at < math.inf:
            return
        job.status = status

    async def _submit_until(self, is_over: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        while not is_over.is_set():
            tasks.create_task(self._submit())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), self.chance.uniform(0.5, 1.5) * self.pause_seconds)

    async def _submit(self) -> None:
        """POST a link somewhere, and ask another instance for its job at once."""
        first, second, *_ = self.chance.sample(self.its.urls, 3)
        video, sent_at = self._next_video(), time.monotonic()
        try:
            async with self.client.post(f"{first}/extract", json={"url": watch_url(video)}) as response:
                body: dict[str, Any] = await response.json(content_type=None)
        except (ClientError, TimeoutError, ConnectionError, ValueError):
            self.refused["unreachable"] += 1
            return
        if response.status in {200, 201, 202}:
            job = Accepted(job_id=body["job_id"], video=video, sent_at=sent_at, round=self.round, status=body["status"])
            self.accepted[job.job_id] = job
            await self.status(job, second)
        else:
            self.refused[body.get("code", "?")] += 1
            if response.status not in {502, 503, 504} or "Retry-After" not in response.headers:
                self.unexpected.append(f"POST /extract: {response.status} {body}")

    def _next_video(self) -> str:
        unfinished = {job.video for job in self.accepted.values() if job.status not in END_STATES}
        if self._submitted and (len(unfinished) >= self.most_unfinished or self.chance.random() > NEW_SHARE):
            # Mostly of late, so that many join a conversion that runs.
            return self.chance.choice(self._submitted[-20:] if self.chance.random() < 0.7 else self._submitted)
        video = next(self.videos)
        self._submitted.append(video)
        return video

    async def _poll_until(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            unfinished = [job for job in self.of_round() if job.status not in END_STATES]
            if unfinished:
                await self.status(self.chance.choice(unfinished), self.chance.choice(self.its.urls))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), self.chance.uniform(0.5, 1.5) * self.pause_seconds)


@asynccontextmanager
async def clients(
    its: Installation, videos: Iterator[str], *, pause_seconds: float, most_unfinished: int, seed: int
) -> AsyncIterator[Load]:
    """Make the clients of an installation. The load begins with `Load.running`."""
    async with ClientSession(
        timeout=ClientTimeout(REQUEST_SECONDS), cookie_jar=DummyCookieJar(), connector=TCPConnector(limit=0)
    ) as client:
        yield Load(
            its=its,
            client=client,
            videos=videos,
            pause_seconds=pause_seconds,
            most_unfinished=most_unfinished,
            chance=random.Random(seed),
        )
