"""Threads for calls that may block, such as file operations: if a disk hangs, they return only when it recovers.

The rule: the event loop's thread makes no file system call. A thread whose call hangs is unavailable until the disk
responds. So each kind of work has its own small thread pool, and a hanging call takes no thread from other kinds.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A thread pool for one kind of work. Its threads start when they are needed."""

    def __init__(self, name: str, count: int) -> None:
        """`name` appears in tools that list threads. At most `count` calls run at once; further ones wait."""
        self.count = count
        self.executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in a thread. If the caller is cancelled, the call continues, and its result is dropped."""
        call = partial(copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.executor, call)

    async def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """Open a file, and return its descriptor, which is closed on exec. The caller closes it with `close`.

        Raises:
            OSError
        """
        return await self.descriptor(os.open, path, flags | os.O_CLOEXEC, mode)

    async def descriptor(self, function: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
        """Call a function that returns a new descriptor. If the caller is cancelled, the descriptor is closed."""
        opening = asyncio.ensure_future(self.run(function, *args, **kwargs))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._close_unused)
            raise

    def close(self, descriptor: int) -> None:
        """Close a descriptor without waiting: on a network file system, `close` may send data to the server."""
        closing = self.executor.submit(os.close, descriptor)
        closing.add_done_callback(_ignore_error)

    def _close_unused(self, opening: "asyncio.Future[int]") -> None:
        if not opening.cancelled() and opening.exception() is None:
            self.close(opening.result())


def _ignore_error(closing: "Future[None]") -> None:
    with contextlib.suppress(OSError):
        closing.result()
