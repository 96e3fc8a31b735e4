"""Drives the job store of a released version on a Redis server: the program of a process (see `released.instance`).

Each line of the input is a JSON array, the name of a function below and its arguments. Each line of the output is the
result, or an object with `error`. This file uses only names that both versions of the package have.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from ytmp3 import __version__
from ytmp3.core.errors import FailureCode, StoreError
from ytmp3.core.ids import ClientId, ConversionId, InstanceId, JobId, VideoId, new_conversion_id, new_job_id
from ytmp3.core.job import Conversion, Metadata, Track, track_file_name
from ytmp3.core.recipe import DEFAULT_RECIPE, conversion_key
from ytmp3.jobstore import Submission
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.settings import Policy

METADATA = Metadata(title="A song", uploader=None, duration_seconds=10.0, thumbnail_url=None)


class Instance:
    """One instance of the released version; each public method is a function that the other process calls."""

    def __init__(self, address: str) -> None:
        policy = Policy(lease_seconds=30.0, retention_seconds=3600.0, crash_limit=3)
        self.now = 0.0
        self.store = RedisJobStore(RedisSettings(address=address), policy, InstanceId("01d"), clock=lambda: self.now)
        self.held: dict[str, Conversion] = {}

    async def version(self) -> str:
        return __version__

    async def codes(self) -> list[str]:
        return list(FailureCode)

    async def set_time(self, now: float) -> None:
        self.now = now

    async def submit(self, video_id: str, number: int) -> str:
        """Submit a link; return the job's id."""
        key, chance = conversion_key(VideoId(video_id), DEFAULT_RECIPE), number.to_bytes(16, "big")
        submission = Submission(
            job_id=new_job_id(key, chance),
            conversion_id=new_conversion_id(key, chance),
            video_id=VideoId(video_id),
            recipe=DEFAULT_RECIPE,
            client=ClientId("addr:192.0.2.1"),
        )
        submitted = await self.store.submit(submission, may_create=True)
        assert submitted is not None
        conversion = submitted.ticket.conversion
        self.held[str(conversion.conversion_id)] = conversion
        return str(submission.job_id)

    async def adopt(self) -> list[str]:
        """Adopt what is due; return the ids of the conversions."""
        adopted = await self.store.adopt(100)
        self.held |= {str(conversion.conversion_id): conversion for conversion in adopted}
        return [str(conversion.conversion_id) for conversion in adopted]

    async def claim(self, conversion_id: str) -> None:
        self.held[conversion_id] = await self.store.claim(self.held[conversion_id].lease)

    async def finish(self, conversion_id: str) -> str:
        """Finish a claimed conversion; return the file name of its track."""
        lease = self.held[conversion_id].lease
        name = track_file_name(lease, DEFAULT_RECIPE)
        track = Track(file_name=name, size_bytes=5, duration_seconds=10.0, sha256="0" * 64, published_at=self.now)
        await self.store.finish(lease, track, METADATA)
        return name

    async def retry(self, conversion_id: str, code: str) -> None:
        await self.store.retry(self.held[conversion_id].lease, FailureCode(code), delay_seconds=0.0)

    async def job(self, job_id: str) -> dict[str, str | None]:
        """Return the status of a job, its error, and its conversion."""
        ticket = await self.store.get(JobId(job_id))
        assert ticket is not None
        conversion = ticket.conversion
        return {"status": ticket.status, "error": conversion.error, "id": ConversionId(conversion.conversion_id)}

    async def known_files(self, names: list[str]) -> list[str]:
        return sorted(await self.store.known_files(names))


async def main() -> None:
    """Answer each line of the input."""
    instance = Instance(sys.argv[1])
    await instance.store.open()
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = json.loads(line)
        call: Callable[..., Awaitable[Any]] = getattr(instance, name)
        try:
            answer = await call(*arguments)
        except StoreError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    await instance.store.close()


if __name__ == "__main__":
    asyncio.run(main())
