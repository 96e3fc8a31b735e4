"""A stream for log lines whose `write` never blocks: a thread writes the lines to the real stream.

If the other end of a pipe is not read (a stopped log collector, a terminal paused with Ctrl-S), a write to stderr
blocks. In the event loop's thread, that would stop the whole service. Here, lines wait in a bounded queue; when it is
full, further lines are dropped and counted.
"""

import contextlib
import os
import threading
import time
from queue import Full, Queue
from typing import Final, TextIO

MAX_LINES: Final = 10_000
"""Most lines that wait: some 5 MB, and minutes of a busy service's log."""
END_SECONDS: Final = 2.0
"""Longest wait, in seconds, for the remaining lines to be written at the end of the process."""
POLL_SECONDS: Final = 0.01
"""Interval, in seconds, at which `drain` checks whether all lines are written."""


class LogStream:
    """Takes lines for `stream`. All of its methods may be called in any thread."""

    def __init__(self, stream: TextIO, *, max_lines: int = MAX_LINES) -> None:
        self._stream = stream
        self._lines: Queue[str] = Queue(max_lines)
        self._dropped = 0
        self._lock = threading.Lock()
        """Protects `_dropped`."""
        self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Take one line. Returns at once."""
        try:
            self._lines.put_nowait(line)
        except Full:
            with self._lock:
                self._dropped += 1

    def flush(self) -> None:
        """Do nothing: nothing is buffered. `logging` calls this after each line."""

    def isatty(self) -> bool:
        """Return whether the real stream is a terminal."""
        return self._stream.isatty()

    def drain(self, seconds: float = END_SECONDS) -> None:
        """Wait until all lines are written, for at most `seconds`. Called at the end of the process."""
        until = time.monotonic() + seconds
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(POLL_SECONDS)

    def _work(self) -> None:
        while True:
            line = self._lines.get()
            left = (line + self._about_dropped()).encode("utf-8", "replace")
            with contextlib.suppress(OSError, ValueError):  # the other end is closed, or this one
                while left:
                    # The stream's own buffer is avoided: a thread that blocks there holds the buffer's lock, which the
                    # interpreter needs at its exit.
                    left = left[os.write(self._stream.fileno(), left) :]
            self._lines.task_done()

    def _about_dropped(self) -> str:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if not dropped:
            return ""
        return f'{{"level":"warning","event":"log lines dropped: stderr was not read in time","lines":{dropped}}}\n'
