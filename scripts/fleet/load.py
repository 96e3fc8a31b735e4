"""The clients of a fleet: they submit links at a rate, whatever the answers are, and follow each job by polling."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import ClientConnectionError, ClientSession

POLL_SECONDS: Final = 2.0
"""Interval, in seconds, between two polls of a job."""
CLIENTS: Final = 1000
"""Number of different client addresses."""
RECENT: Final = 100
"""A link that is submitted again is one of so many latest ones: most of those are still converting."""
REFUSALS: Final = frozenset({429, 503})
ENDED: Final = frozenset({"completed", "failed", "cancelled"})


@dataclass(slots=True)
class Load:
    """What the clients have seen. Times in seconds."""

    submitted: int = 0
    """Requests with a link that have been sent."""
    refused: Counter[str] = field(default_factory=Counter)
    """Answers other than a job, by their error code."""
    accepted: list[str] = field(default_factory=list)
    """The ids of all acknowledged jobs."""
    ended: Counter[str] = field(default_factory=Counter)
    """Jobs that have ended, by status."""
    unknown: int = 0
    """Polls of acknowledged jobs that were answered with 404: lost jobs."""
    polls: int = 0
    new_links: int = 0
    """How many of the accepted links were submitted for the first time."""
    asked_at: dict[str, float] = field(default_factory=dict)
    """When each of these links was submitted, by its video."""
    post_seconds: list[float] = field(default_factory=list)
    poll_seconds: list[float] = field(default_factory=list)
    job_seconds: list[float] = field(default_factory=list)
    """From the submission until a client has seen the end."""


Ask = Callable[[str, str, str, dict[str, str] | None], Awaitable[tuple[int, dict[str, Any]]]]
"""Sends a request of a client (its address, a method, a path and a body); returns the status and the body."""


def now() -> float:
    """Return the time of the loop, which may be virtual."""
    return asyncio.get_running_loop().time()


class HttpClient:
    """Asks the instances in random order, as a load balancer would."""

    def __init__(self, session: ClientSession, urls: Sequence[str], chance: random.Random) -> None:
        self._session = session
        self._urls = urls
        self._chance = chance

    async def ask(self, client: str, method: str, path: str, body: dict[str, str] | None) -> tuple[int, dict[str, Any]]:
        """See `Ask`. A connection that is not answered counts as 503."""
        url = self._chance.choice(self._urls) + path
        try:
            async with self._session.request(method, url, json=body, headers={"X-Forwarded-For": client}) as response:
                return response.status, await response.json()
        except (ClientConnectionError, TimeoutError):
            return 503, {}


class Clients:
    """All clients. `again` is the share of links that were submitted before."""

    def __init__(self, ask: Ask, *, again: float, poll_seconds: float, chance: random.Random, step: int) -> None:
        """`step` makes the links differ from those of other clients."""
        self._ask = ask
        self._again = again
        self._poll_seconds = poll_seconds
        self._chance = chance
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._number = step * 10**8
        self._jobs: set[asyncio.Task[None]] = set()
        self.load = Load()

    async def submit_for(self, seconds: float, per_second: float) -> None:
        """Submit links at a rate, evenly spread; return when the time is over. Jobs may still run then.

        It may be called again, to continue.
        """
        started_at = now()
        for number in range(round(seconds * per_second)):
            delay = started_at + number / per_second - now()
            if delay > 0.0:
                await asyncio.sleep(delay)
            job = asyncio.create_task(self._follow(self._next_link()), name="job")
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)
        await asyncio.sleep(max(0.0, started_at + seconds - now()))

    async def until_ended(self, seconds: float) -> int:
        """Wait until all jobs have ended, for at most so many seconds. Returns the number of those that have not."""
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=seconds)
        left = list(self._jobs)
        for job in left:
            job.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)

    def _next_link(self) -> tuple[str, bool]:
        if self._recent and self._chance.random() < self._again:
            return self._chance.choice(self._recent), False
        self._number += 1
        link = f"https://youtu.be/v{self._number:010d}"
        self._recent.append(link)
        return link, True

    async def _follow(self, link: tuple[str, bool]) -> None:
        load, (address, is_new) = self.load, link
        number = self._chance.randrange(CLIENTS)
        client = f"198.18.{number // 250}.{number % 250 + 1}"
        load.submitted += 1
        began_at = now()
        status, job = await self._ask(client, "POST", "/extract", {"url": address})
        if status not in {200, 202}:
            load.refused[job.get("code", str(status))] += 1
            return
        load.post_seconds.append(now() - began_at)
        if is_new:
            load.new_links += 1
            load.asked_at[address.rpartition("/")[2]] = began_at
        load.accepted.append(job["job_id"])
        while job["status"] not in ENDED:
            await asyncio.sleep(self._poll_seconds)
            asked_at = now()
            status, answer = await self._ask(client, "GET", f"/status/{job['job_id']}", None)
            load.polls += 1
            if status == 200:
                load.poll_seconds.append(now() - asked_at)
                job = answer
            elif status not in REFUSALS:
                load.unknown += 1
                return
        load.ended[job["status"]] += 1
        load.job_seconds.append(now() - began_at)
