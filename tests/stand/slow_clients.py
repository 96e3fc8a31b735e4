"""Clients that open a connection and never finish a request: servers must close it after a while."""

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

POST_HEAD: Final = b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
SLOW_CLIENTS: Final[Mapping[str, tuple[bytes, bool]]] = {
    "sends nothing": (b"", False),
    "drips a head": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: ", True),
    "stops in the body": (POST_HEAD + b"{", False),
    "drips a body": (POST_HEAD + b"{", True),
}
"""By name: the bytes that a client sends at once, and whether it sends one byte more every second."""


def allow_descriptors(count: int) -> None:
    """Let this process, and those that it starts from now on, have at least `count` descriptors open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= count, f"this machine allows {hard} descriptors"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


async def held_seconds(port: int, start: bytes, *, is_dripping: bool) -> float:
    """Be one slow client; return the seconds after which the server closed the connection."""
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
async def slow_clients(
    port: int, count: int, kinds: Mapping[str, tuple[bytes, bool]]
) -> AsyncIterator[dict[str, list["asyncio.Task[float]"]]]:
    """Run `count` slow clients, equally many of each kind; those still connected at the end are disconnected.

    Yields their tasks by kind; the result of a task is the seconds after which the server closed its connection.
    """
    allow_descriptors(2 * count + 200)
    async with asyncio.TaskGroup() as group:
        tasks_by_kind = {
            name: [
                group.create_task(held_seconds(port, start, is_dripping=is_dripping))
                for _ in range(count // len(kinds))
            ]
            for name, (start, is_dripping) in kinds.items()
        }
        yield tasks_by_kind
        for tasks in tasks_by_kind.values():
            for task in tasks:
                task.cancel()
