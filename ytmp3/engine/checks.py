"""The checks of the disk and of the tools. Each runs once at a time, and every wait for one has a limit.

A check does what a conversion needs. A check of a disk that hangs does not end. It is then not repeated: it goes on in
its thread, and the health state says for how long there has been no answer. The watcher checks regularly. An attempt
that failed checks as well, because this instance may be at fault: then the attempt is not counted.

Why an attempt does not rely on the last regular check: a conversion often meets a fault first, seconds before the check
is due. Without a check of its own, the failure would count, and an instance with a broken disk or ffmpeg would use up
the attempts of every conversion that it takes.

Why one check at a time: each further check of a hanging disk would occupy another thread until the disk responds, and
learn nothing more. Callers that come while a check runs wait for the same result.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from ytmp3.converter import Converter
from ytmp3.core.errors import FailureCode
from ytmp3.engine.health import Health
from ytmp3.engine.settings import EngineSettings
from ytmp3.storage import ShelfDown
from ytmp3.storage.files import Files

log = logging.getLogger(__name__)

TOOLS_WAIT_SECONDS: Final = 30.0
"""Longest wait, in seconds, for a check of the tools after a failed attempt. It takes a second if all of them work."""
DISK_CODES: Final = frozenset({FailureCode.STORAGE_FULL, FailureCode.LOST})
TOOLS_CODES: Final = frozenset({FailureCode.TOOL_MISSING})
"""Failures after which the disk or the tools are checked at once."""


class DiskCheck:
    """Checks the data folder, and records the result in the health state."""

    def __init__(self, settings: EngineSettings, *, files: Files, health: Health, clock: Callable[[], float]) -> None:
        self._files = files
        self._health = health
        self._clock = clock
        self._limit_seconds = settings.disk_limit_seconds
        self._began_at = 0.0
        self._running: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Check now, or wait for the check that runs already; at most `disk_limit_seconds`.

        After the limit, the check is left running: a thread in a system call cannot be cancelled. Its result is
        recorded whenever it ends, so the instance becomes ready by itself when the disk does. An unexpected error of
        the check is raised here, so that the loop of the caller logs it.
        """
        if self._running is None or self._running.done():
            self._began_at = self._clock()
            self._running = asyncio.create_task(self._check(), name="disk-check")
        running = self._running
        await asyncio.wait([running], timeout=self._limit_seconds)
        if running.done():
            running.result()
        else:
            self._found(f"the data folder has not answered for {self._clock() - self._began_at:.0f} s")

    async def close(self) -> None:
        """End the check. A thread that hangs in it stays."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _check(self) -> None:
        try:
            self._health.space = await self._files.check()
            error = None
        except ShelfDown as failed:
            error = failed.strerror
        except OSError as failed:
            error = f"the data folder cannot be used: {failed.strerror or failed}"
        self._health.space_at = self._clock()
        self._found(error)

    def _found(self, error: str | None) -> None:
        """Record the result of a check. Logs changes only, so that a full disk writes two lines, not one a second.

        Each change from good to bad counts as one fault. An attempt compares the count at its start and at its end, and
        so sees a fault that began and ended meanwhile (`failed_attempts`).
        """
        before, self._health.storage_error = self._health.storage_error, error
        if error is not None and before is None:
            self._health.storage_faults += 1
            log.error("data folder", extra={"ok": False, "detail": error})
        elif error is None and before is not None:
            log.info("data folder", extra={"ok": True, "detail": "can be used again"})


class ToolsCheck:
    """Checks the tools, and records the result in the health state."""

    def __init__(self, *, converter: Converter, health: Health, clock: Callable[[], float]) -> None:
        self._converter = converter
        self._health = health
        self._clock = clock
        self._running: asyncio.Task[None] | None = None
        self._release = converter.release()

    @property
    def is_stale(self) -> bool:
        """Whether another release of yt-dlp has been put into use since the last check."""
        return self._release != self._converter.release()

    async def look(self) -> None:
        """Check now, or wait for the check that runs already.

        The check is shielded: if this caller is cancelled, others may still wait for the result.
        """
        await asyncio.shield(self._started())

    async def look_after_failure(self) -> None:
        """Do the same, but wait TOOLS_WAIT_SECONDS at most. Attempts that fail at the same time share a check."""
        await asyncio.wait([self._started()], timeout=TOOLS_WAIT_SECONDS)

    async def close(self) -> None:
        """End the check."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def _started(self) -> asyncio.Task[None]:
        """Return the check that is running, or start one. Callers that ask at the same time share a check."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check(), name="tools-check")
        return self._running

    async def _check(self) -> None:
        """Run the check, and record its result. Logs a tool only if its result has changed.

        The release is noted before the check: if another one is put into use meanwhile, `is_stale` asks for a new
        check.
        """
        before = {tool.name: tool.ok for tool in self._health.tools}
        self._release = self._converter.release()
        tools = self._health.tools = await self._converter.check()
        self._health.tools_at = self._clock()
        if not before and all(tool.ok for tool in tools):
            # The first check of a healthy installation: one line, with the versions.
            log.info("tools", extra={"ok": True} | {tool.name: tool.version for tool in tools})
            return
        for tool in tools:
            if before.get(tool.name) != tool.ok:
                level = logging.INFO if tool.ok else logging.ERROR
                log.log(level, "tool", extra={"tool": tool.name, "ok": tool.ok, "detail": tool.detail})


class Checks:
    """Both checks."""

    def __init__(self, disk: DiskCheck, tools: ToolsCheck) -> None:
        self.disk = disk
        self.tools = tools

    async def after_failure(self, code: FailureCode) -> None:
        """Find out whether the disk or the tools are at fault for an attempt that has failed with this code.

        The result is in the health state when this returns, which the caller reads next. Other codes name a fault of
        the video, of YouTube or of the network, which no check of this instance can explain, so nothing is checked.
        """
        if code in DISK_CODES:
            await self.disk.look()
        elif code in TOOLS_CODES:
            await self.tools.look_after_failure()

    async def close(self) -> None:
        """End both."""
        await self.disk.close()
        await self.tools.close()
