"""Many listeners of one real conversion: some hear all of it, some read slowly, and some leave."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import ClientTimeout, StreamReader

from tests.fake_youtube import Spawned, watch_url
from tests.stand.processes import descendants
from tests.stand.service_process import ServiceProcess
from tests.stand.waiting import until

SLOW_BYTES: Final = 1 << 16
SLOW_PAUSE_SECONDS: Final = 3.0
"""A slow listener takes SLOW_BYTES in this time, 22 kB/s, until all others have ended: slower than the sound plays. The
kernel gives up a connection whose receiver takes nothing for a minute, so each piece is as large as the kernel needs to
tell the sender that there is space again."""
STEP_BYTES: Final = 2000
"""Listeners that leave do so at different points: after this many bytes, twice as many, and so on."""
NO_LIMIT: Final = ClientTimeout(total=None)
"""A busy machine may need long for one conversion, and the response lasts as long."""
ENCODER: Final = b"libmp3lame"
SAMPLE_SECONDS: Final = 0.02


class _Listener:
    """One listener: what it has heard, and its longest wait for the next bytes after the first."""

    def __init__(self) -> None:
        self.sound = bytearray()
        self.longest_wait_seconds = 0.0
        self.is_late = False
        """Whether the conversion had ended before the listener was served, so that there was a track instead."""

    @asynccontextmanager
    async def response(self, service: ServiceProcess, path: str) -> AsyncIterator[StreamReader]:
        """Ask for the sound, again while there is none yet, and yield what is sent.

        A small buffer lets the kernel hold back the server: aiohttp reads at most twice as much ahead.
        """
        while True:
            async with service.client.get(
                service.url + path, timeout=NO_LIMIT, read_bufsize=SLOW_BYTES, allow_redirects=False
            ) as response:
                if response.status == HTTPStatus.CONFLICT:
                    await asyncio.sleep(float(response.headers["Retry-After"]))
                    continue
                self.is_late = response.status == HTTPStatus.TEMPORARY_REDIRECT
                assert self.is_late or response.status == HTTPStatus.OK, await response.text()
                yield response.content
                response.close()
                return

    async def hear(self, content: StreamReader, most_bytes: float = float("inf")) -> None:
        while len(self.sound) < most_bytes:
            asked_at = time.monotonic()
            piece = await content.readany()
            if not piece:
                return
            if self.sound:
                self.longest_wait_seconds = max(self.longest_wait_seconds, time.monotonic() - asked_at)
            self.sound += piece


async def listen_together(
    youtube: Spawned, service: ServiceProcess, video_id: str, listeners: int, **fields: str
) -> dict[str, float]:
    """Let a third of the listeners hear everything, a third read slowly, and a third leave; return figures.

    Checks that there is one extraction, one attempt and one encoder, that each one who stays hears the same whole
    sound, that nobody waits for a slow listener, and that nothing is left behind.
    """
    await service.close_connections()
    descriptors, scratch = await service.descriptors(), Path(service.settings["DATA_DIR"]) / "scratch"
    files = _files_in(scratch)
    status, job = await service.post(watch_url(video_id), **fields)
    assert status == 202, job
    path, begun_at = job["listen_url"], time.monotonic()
    encoders = set[int]()
    counting = asyncio.create_task(_note_encoders(service.pid, encoders))
    staying, slow, leaving = ([_Listener() for _ in range(first, listeners, 3)] for first in range(3))
    are_all_done = asyncio.Event()

    async def stay(listener: _Listener) -> None:
        async with listener.response(service, path) as content:
            await listener.hear(content)

    async def leave(number: int, listener: _Listener) -> None:
        async with listener.response(service, path) as content:
            await listener.hear(content, STEP_BYTES * (number + 1))

    async def read_slowly(listener: _Listener) -> None:
        async with listener.response(service, path) as content:
            while not are_all_done.is_set() and not content.at_eof():
                listener.sound += await content.read(SLOW_BYTES)
                await asyncio.sleep(SLOW_PAUSE_SECONDS)
            await listener.hear(content)

    reading = [asyncio.create_task(read_slowly(each)) for each in slow]
    await asyncio.gather(*map(stay, staying), *(leave(*each) for each in enumerate(leaving)))
    heard_at = time.monotonic()
    counting.cancel()
    ended = await service.until(job["job_id"])
    read_bytes = [len(each.sound) for each in slow if not each.is_late]
    are_all_done.set()
    await asyncio.gather(*reading)
    _check(ended, youtube, video_id, encoders)
    staying, slow = ([each for each in group if not each.is_late] for group in (staying, slow))
    sounds = {bytes(each.sound) for each in (*staying, *slow)}
    assert len(sounds) == 1, "each one who stays hears the whole sound"
    sound = sounds.pop()
    assert (await service.download(ended)).endswith(sound[len(sound) // 2 :]), "and it is that of the track"
    await service.holds_at_most(descriptors)
    await until(lambda: _files_in(scratch) <= files, "no file of the attempt is left")
    return {
        "listeners": listeners,
        "late": listeners - len(staying) - len(slow) - len(leaving),
        "bytes": len(sound),
        "seconds": round(heard_at - begun_at, 1),
        "longest wait of one who hears all": round(max(each.longest_wait_seconds for each in staying), 2),
        "share that the slow ones had read then": round(sum(read_bytes) / len(read_bytes) / len(sound), 2),
        "extractions": youtube.counts(video_id).extractions,
        "encoders": len(encoders),
    }


def _check(job: dict[str, object], youtube: Spawned, video_id: str, encoders: set[int]) -> None:
    counts = youtube.counts(video_id)
    assert (job["status"], job["attempt"]) == ("completed", 1), job
    assert counts.extractions == 1
    assert len(encoders) == 1, "one encoder serves all listeners"


async def _note_encoders(pid: int, found: set[int]) -> None:
    """Note the processes below `pid` that encode, until cancelled."""
    while True:
        found |= {each for each in descendants(pid) if ENCODER in _command(each)}
        await asyncio.sleep(SAMPLE_SECONDS)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
