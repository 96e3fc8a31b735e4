"""Load from one process: an open loop for latencies at a constant rate, and a closed loop for the highest rate.

The open loop sends at fixed times. If it waited for responses, it would send nothing while the service is slow, and the
latencies would look better than they are ("coordinated omission").
"""

import asyncio
import contextlib
import gc
import re
import time
from collections.abc import Awaitable, Callable, Iterator

from msgspec import Struct


class Latencies(Struct, frozen=True, kw_only=True):
    """Seconds from the time at which each request was due to its whole response, and the number of errors (not 2xx)."""

    seconds: list[float]
    refused: int


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect garbage first, and then none in the block.

    A full collection of this process takes 20 to 30 ms. In a measurement it would delay the requests that are due
    meanwhile, and be taken for a slow service.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def open_loop(ask: Callable[[int], Awaitable[int]], *, rate: float, seconds: float) -> Latencies:
    """Start a request every 1/rate seconds, however slow the responses are; `ask` sends one and returns its status."""
    waits: list[float] = []
    refused = 0

    async def one(number: int, due: float) -> None:
        nonlocal refused
        status = await ask(number)
        waits.append(time.perf_counter() - due)
        refused += not 200 <= status < 300

    with without_garbage_collection():
        loop_start = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(rate * seconds)):
                due = loop_start + number / rate
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                tasks.create_task(one(number, due))
    return Latencies(seconds=waits, refused=refused)


async def closed_loop(url: str, path: str, *, connections: int, requests: int) -> float:
    """Return the requests per second over connections that each send the next request after the last response."""
    host, _, port = url.removeprefix("http://").partition(":")
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(requests):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            if length is None or b" 200 " not in head[:20]:
                raise RuntimeError(f"not answered: {head[:100]!r}")
            await reader.readexactly(int(length[1]))
        writer.close()

    started_at = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return connections * requests / (time.perf_counter() - started_at)
