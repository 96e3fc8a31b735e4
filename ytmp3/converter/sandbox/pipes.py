"""Pipes from a tool to the event loop: read as they come, never in the way, never larger than their bound.

`asyncio.subprocess` is not used for tools: its `wait()` hangs while a grandchild holds a pipe (3.11), its readers raise
on long lines, and its buffers grow with a flood (reliability facts 2.1).
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final, TypeVar

READ_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 64 * 1024
"""What is kept of a tool's complaints."""


class Reader:
    """Reads one descriptor until its end; owns and closes it."""

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
        """Stop reading; whoever still writes gets EPIPE."""
        if self.ended.done():
            return
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.ended.set_result(None)


class Tail:
    """The last bytes of a stream of any length."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take more, forgetting the oldest."""
        self._kept += chunk
        if len(self._kept) > 2 * TAIL_BYTES:
            del self._kept[:-TAIL_BYTES]

    def text(self) -> str:
        """Return what is kept, readable whatever it was."""
        return bytes(self._kept[-TAIL_BYTES:]).decode("utf-8", "replace")


class Lines:
    """Cuts a stream into lines; a line over `max_bytes` is dropped, and so is nothing else."""

    def __init__(self, max_bytes: int, on_line: Callable[[bytes], None]) -> None:
        self._max_bytes = max_bytes
        self._on_line = on_line
        self._rest = b""
        self._dropping = False

    def add(self, chunk: bytes) -> None:
        """Take more, calling `on_line` for each line that is now complete."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if not self._dropping and len(line) <= self._max_bytes:
                self._on_line(line)
            self._dropping = False
        if len(rest) > self._max_bytes:
            self._dropping, rest = True, b""
        self._rest = rest


T = TypeVar("T")


def resolve(future: asyncio.Future[T], value: T) -> None:
    """Set a result that may have come already, or is no longer wanted."""
    if not future.done():
        future.set_result(value)
