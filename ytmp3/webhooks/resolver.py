"""Resolves host names in a separate thread pool.

aiohttp's own resolver uses the default thread pool of the event loop, which conversions use for files. That pool is
small, and a name server that does not reply blocks a thread for up to half a minute.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS: Final = 32
"""Name look-ups at the same time. An endpoint has at most four requests at once, so up to seven endpoints whose name
servers do not reply leave threads for the others. A waiting thread costs only memory, about 0.1 MB."""


class ThreadResolver(AbstractResolver):
    """Resolves names with `getaddrinfo`, like other programs on this machine."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises OSError if there is none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port, family)
        return [
            ResolveResult(
                hostname=host,
                host=str(target[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, target in found
        ]

    async def close(self) -> None:
        """End the threads as soon as their look-ups have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(
    host: str, port: int, family: int
) -> list[tuple[socket.AddressFamily, int, int, str, tuple[str | int, ...]]]:
    return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)  # type: ignore[return-value]
