"""Reads the pipes of a child process on the event loop, without blocking and with a bound on every buffer.

`asyncio.subprocess` is not used for child processes. Measured on Python 3.11: its `wait()` hangs while a grandchild
holds a pipe, its readers raise on long lines, and its buffers grow with the output.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final, TypeVar

READ_BYTES: Final = 64 * 1024
"""Largest single read from a pipe, in bytes: the default capacity of a Linux pipe."""

TAIL_BYTES: Final = 64 * 1024
"""Number of bytes that are kept from the end of a child's standard error, which has the reason of a failure."""

DRAIN_SECONDS: Final = 0.5
"""How long the rest of the output is read, in seconds, after a child has ended. This is bounded, because a descendant
of the child may keep the writing end open forever."""

T = TypeVar("T")


class Reader:
    """Reads one descriptor until end of file and passes on each chunk. Owns the descriptor and closes it.

    Needs a running event loop. `ended` is done once the descriptor is closed.
    """

    def __init__(self, descriptor: int, on_bytes: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._on_bytes = on_bytes
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if chunk:
            self._on_bytes(chunk)
        else:
            self.close()

    def close(self) -> None:
        """Stop reading and close the descriptor; a process that still writes gets EPIPE. Safe to call twice."""
        if self.ended.done():
            return
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.ended.set_result(None)


class Tail:
    """Keeps the last TAIL_BYTES of a stream of any length."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def add(self, chunk: bytes) -> None:
        """Append a chunk and drop the oldest bytes beyond the bound."""
        self._kept += chunk
        if len(self._kept) > 2 * TAIL_BYTES:
            del self._kept[:-TAIL_BYTES]

    def text(self) -> str:
        """Return the kept bytes as text; bytes that are not UTF-8 become U+FFFD."""
        return bytes(self._kept[-TAIL_BYTES:]).decode("utf-8", "replace")


class Lines:
    """Splits a stream into lines. A line longer than `max_bytes` is dropped; other lines are not affected."""

    def __init__(self, max_bytes: int, on_line: Callable[[bytes], None]) -> None:
        self._max_bytes = max_bytes
        self._on_line = on_line
        self._rest = b""
        self._dropping = False

    def add(self, chunk: bytes) -> None:
        """Append a chunk and call `on_line` for each line that is now complete, without its newline."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if not self._dropping and len(line) <= self._max_bytes:
                self._on_line(line)
            self._dropping = False
        if len(rest) > self._max_bytes:
            self._dropping, rest = True, b""
        self._rest = rest


def resolve(future: asyncio.Future[T], value: T) -> None:
    """Set the result of a future unless it is done already, by a result, an error or a cancellation."""
    if not future.done():
        future.set_result(value)
