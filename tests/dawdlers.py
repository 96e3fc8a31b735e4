"""Peers that hold a connection and do not get to the point (goal H07)."""

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

POST_HEAD = b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
# What is sent at once, and whether one byte more follows every second.
DAWDLERS = {
    "says nothing": (b"", False),
    "drips a head": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: ", True),
    "stops in the body": (POST_HEAD + b"{", False),
    "drips a body": (POST_HEAD + b"{", True),
}


def allow_descriptors(count: int) -> None:
    """Let this process, and those that it starts from now on, hold so many at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= count, f"this machine allows {hard} descriptors"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


async def held_seconds(port: int, start: bytes, *, is_dripping: bool) -> float:
    """Be a dawdler; return after how long the other side has closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun_at = time.monotonic()

    async def drip() -> None:
        while True:
            await asyncio.sleep(1)
            writer.write(b" ")

    dripping = asyncio.create_task(drip()) if is_dripping else None
    writer.write(start)
    try:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        return time.monotonic() - begun_at
    finally:
        if dripping is not None:
            dripping.cancel()
        writer.close()


@asynccontextmanager
async def crowd(
    port: int, count: int, kinds: Mapping[str, tuple[bytes, bool]]
) -> AsyncIterator[dict[str, list["asyncio.Task[float]"]]]:
    """Have `count` dawdlers, as many of each kind; what is left of them at the end goes away."""
    allow_descriptors(2 * count + 200)
    async with asyncio.TaskGroup() as group:
        peers = {
            name: [
                group.create_task(held_seconds(port, start, is_dripping=is_dripping))
                for _ in range(count // len(kinds))
            ]
            for name, (start, is_dripping) in kinds.items()
        }
        yield peers
        for tasks in peers.values():
            for task in tasks:
                task.cancel()
