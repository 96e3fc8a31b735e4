"""One youtube child, as the server sees it: its news, its limits, its end.

The child is not trusted to keep any limit: extraction, download and silence are timed here, and the spool is measured
on disk. Its news are only ever decoded into typed events; what is not one is dropped.
"""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from ytmp3.converter.sandbox.pipes import Lines, Reader, Tail, resolve
from ytmp3.converter.sandbox.protocol import Walls
from ytmp3.converter.sandbox.spawner import Child, Spawner, ToolsLostError
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.spool import Spool
from ytmp3.converter.youtube.messages import code_of_youtube_message
from ytmp3.converter.youtube.news import (
    MAX_LINE_BYTES,
    Cover,
    Downloaded,
    Extraction,
    Found,
    Grown,
    Refusal,
    Spooling,
    ToolError,
    decode_news,
)
from ytmp3.core.errors import ConversionError, FailureCode, NoProcess

CHECK_SECONDS: Final = 1.0
PIPES_SECONDS: Final = 0.5
"""How long the last words of a child that has ended are waited for: a descendant may hold its pipes for ever."""

OVERSHOOT_BYTES: Final = 8 * 2**20
"""How far the file size wall lies over the byte limit: the limit's own error is clearer than the wall's."""

DATA_BYTES: Final = 2**30
"""Memory of the youtube child, and of its JavaScript engine, each: what slips through the bounds on answers (see
`answers`) ends the child and not the machine. Measured: 60 MB and, with a real player script, 180 MB."""

SLOWEST_BYTES_PER_SECOND: Final = 16_000
"""Less than this over the whole idle time is a stall in slow motion (reliability goal P06)."""


class Fetch:
    """Extraction and download of one video."""

    def __init__(self, scratch: Path, limits: ConversionLimits) -> None:
        loop = asyncio.get_running_loop()
        self._scratch = scratch
        self._limits = limits
        self._child: Child | None = None
        self._readers: list[Reader] = []
        self._error: ConversionError | None = None
        self._found: asyncio.Future[Found] = loop.create_future()
        self._spooling = asyncio.Event()
        self._downloaded: asyncio.Future[None] = loop.create_future()
        self.spool: Spool | None = None
        self.cover: asyncio.Future[Cover | None] = loop.create_future()
        self.log = Tail()

    async def start(self, spawner: Spawner, extraction: Extraction) -> None:
        """Fork the child.

        Raises:
            ToolsLostError: it cannot be.
        """
        seconds = self._limits.extract_seconds + self._limits.download_seconds
        walls = Walls(
            file_bytes=self._limits.max_file_bytes + OVERSHOOT_BYTES,
            cpu_seconds=int(2 * seconds) + 1,
            data_bytes=DATA_BYTES,
            network=True,
        )
        log_ours, log_theirs = os.pipe()
        news_ours, news_theirs = os.pipe()
        lines = Lines(MAX_LINE_BYTES, self._on_line)
        news = Reader(news_ours, lines.add)
        # A child that has said its last word without a word of a cover has none.
        news.ended.add_done_callback(lambda _: resolve(self.cover, None))
        self._readers = [Reader(log_ours, self.log.add), news]
        try:
            self._child = await spawner.fork_youtube(extraction, walls, log=log_theirs, news=news_theirs)
        finally:
            os.close(log_theirs)
            os.close(news_theirs)

    async def found(self) -> Found:
        """Wait for the extraction to be over.

        Raises:
            ConversionError: no such luck, or no answer in time.
        """
        await _first_of(self._found, self._tool.ended, seconds=self._limits.extract_seconds)
        if not self._found.done() and not self._tool.ended.done():
            raise ConversionError(FailureCode.UPSTREAM_TIMEOUT, "extraction")
        if not self._found.done():
            await self._last_words()
        if not self._found.done():
            raise self._verdict()
        return self._found.result()

    async def begun(self) -> Spool:
        """Wait for the (next) spool."""
        while self.spool is None:
            await self._spooling.wait()
        return self.spool

    async def watch(self) -> None:
        """Keep the limits until the download is complete.

        Raises:
            ConversionError: it failed, or went over a limit.
        """
        watch = _Watch(self._limits)
        while not self._downloaded.done():
            pause = min(CHECK_SECONDS, self._limits.idle_seconds / 4)
            await _first_of(self._downloaded, self._tool.ended, seconds=pause)
            watch.check(_size_on_disk(self.spool))
            if self._tool.ended.done() and not self._downloaded.done():
                await self._last_words()
                if not self._downloaded.done():
                    raise self._verdict()

    async def end(self) -> None:
        """End the child and let go of its pipes."""
        if self._child is not None:
            await self._child.end()
        for reader in self._readers:
            reader.close()

    @property
    def _tool(self) -> Child:
        if self._child is None:
            raise RuntimeError("not started")
        return self._child

    async def _last_words(self) -> None:
        await asyncio.wait([reader.ended for reader in self._readers], timeout=PIPES_SECONDS)

    def _verdict(self) -> ConversionError:
        if self._error is not None:
            return self._error
        try:
            status = self._tool.ended.result().status
        except ToolsLostError as error:
            return NoProcess(str(error))
        return ConversionError(FailureCode.TOOL_MISSING, f"the youtube child ended with {status}, saying nothing")

    def _on_line(self, line: bytes) -> None:
        try:
            news = decode_news(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        match news:
            case Found():
                resolve(self._found, news)
            case Cover():
                resolve(self.cover, news)
            case Refusal():
                self._error = ConversionError(_known_code(news.code), news.reason)
            case ToolError():
                self._error = ConversionError(code_of_youtube_message(news.message, news.warnings), news.message)
            case Spooling() | Grown() | Downloaded():
                self._on_spool_news(news)

    def _on_spool_news(self, news: Spooling | Grown | Downloaded) -> None:
        match news:
            case Spooling():
                self._begin(self._scratch / Path(news.name).name)
            case Grown() if self.spool:
                self.spool.grow(news.size_bytes, news.total_bytes)
            case Downloaded() if self.spool:
                self.spool.complete(news.size_bytes)
                resolve(self._downloaded, None)

    def _begin(self, path: Path) -> None:
        if self.spool is not None and self.spool.path != path:
            self.spool.replace()
            self.spool = None
        if self.spool is None:
            self.spool = Spool(path)
        self._spooling.set()


class _Watch:
    """The clocks of a download."""

    def __init__(self, limits: ConversionLimits) -> None:
        self._limits = limits
        self._begun_at = self._window_at = time.monotonic()
        self._window_bytes = 0

    def check(self, size_bytes: int) -> None:
        """Raise ConversionError if a limit is passed now, at this size."""
        now = time.monotonic()
        if size_bytes > self._limits.max_file_bytes:
            raise ConversionError(FailureCode.TOO_LARGE, f"{size_bytes} bytes on disk")
        if now - self._begun_at > self._limits.download_seconds:
            raise ConversionError(FailureCode.UPSTREAM_TIMEOUT, "download")
        if now - self._window_at < self._limits.idle_seconds:
            return
        if size_bytes - self._window_bytes < SLOWEST_BYTES_PER_SECOND * self._limits.idle_seconds:
            raise ConversionError(FailureCode.UPSTREAM_TIMEOUT, "no or next to no bytes arrive")
        self._window_at, self._window_bytes = now, size_bytes


async def _first_of(*futures: asyncio.Future[Any], seconds: float) -> None:
    await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


def _size_on_disk(spool: Spool | None) -> int:
    if spool is None:
        return 0
    with contextlib.suppress(FileNotFoundError):
        return spool.path.stat().st_size
    return 0


def _known_code(code: str) -> FailureCode:
    try:
        return FailureCode(code)
    except ValueError:
        return FailureCode.UPSTREAM_ERROR
