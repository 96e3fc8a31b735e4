"""A Pipeline of its own against the fake YouTube, and what is left of its processes."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from tests.fake_youtube import Spawned
from ytmp3.converter import Converted
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.sandbox import spawner as child
from ytmp3.converter.settings import ConversionLimits, ToolSettings
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Report
from ytmp3.core.recipe import Quality

MIB = 2**20
FFMPEG: str = imageio_ffmpeg.get_ffmpeg_exe()


def limits(**changed: Any) -> ConversionLimits:
    usual = {
        "max_duration_seconds": 10_800.0,
        "max_file_bytes": 32 * MIB,
        "extract_seconds": 20.0,
        "idle_seconds": 15.0,
    }
    return ConversionLimits(**usual | changed)


@dataclass
class Rig:
    """A pipeline, its scratch folders and its reports."""

    pipeline: Pipeline
    folder: Path
    reports: list[Report] = field(default_factory=list)
    on_report: Callable[[Report], None] = lambda _: None
    count: int = 0

    async def convert(self, video_id: str, quality: Quality = Quality.K128) -> Converted:
        self.count += 1
        scratch = self.folder / f"scratch-{self.count}"
        scratch.mkdir()
        return await self.pipeline.convert(VideoId(video_id), quality, scratch, self._report)

    def _report(self, report: Report) -> None:
        self.reports.append(report)
        self.on_report(report)

    @property
    def zygote_pid(self) -> int:
        process = self.pipeline._spawner._process
        assert process is not None
        return process.pid

    @property
    def tools(self) -> list[int]:
        """The processes running under the zygote."""
        return [pid for pid in descendants(self.zygote_pid) if pid != self.zygote_pid and is_running(pid)]

    async def no_tool_is_left(self) -> None:
        """A grandchild that was killed may still be on its way out when its leader has been reaped."""
        async with asyncio.timeout(2):
            while self.tools:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def rig(
    youtube: Spawned, folder: Path, *, ffmpeg: Path | None = None, has_proxy: bool = True, **changed: Any
) -> AsyncIterator[Rig]:
    """Open a pipeline, and close it at the end. `changed` are limits."""
    settings = ToolSettings(
        ffmpeg_path=ffmpeg,
        egress_proxy=youtube.proxy_url if has_proxy else None,
        egress_ca_file=youtube.ca_file,
        cookies_file=None,
        extract_concurrency=4,
        encode_concurrency=3,
    )
    pipeline = Pipeline(settings, limits(**changed), folder)
    await pipeline.open()
    try:
        yield Rig(pipeline, folder)
    finally:
        await pipeline.close()


def zygote_by(monkeypatch: pytest.MonkeyPatch, program: str, *arguments: str) -> None:
    """Let `program`, which ends by calling `zygote.main()`, be the zygote of every rig to come: on another machine."""

    def start_zygote(connection: socket.socket) -> subprocess.Popen[bytes]:
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "YTDLP_NO_PLUGINS": "1"}
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.Popen(command, stdin=connection.fileno(), env=environment, start_new_session=True)

    monkeypatch.setattr(child, "_start_zygote", start_zygote)


def descendants(pid: int) -> list[int]:
    """Return `pid` and every process under it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (status := _stat(int(entry))):
            children.setdefault(int(status[1]), []).append(int(entry))
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    status = _stat(pid)
    return status is not None and status[0] != "Z"


def processes_with(text: str) -> list[int]:
    """Return the running processes whose command line holds `text`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command and is_running(int(entry)):
                found.append(int(entry))
    return found


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
