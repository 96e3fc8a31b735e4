"""A Pipeline of its own against the fake YouTube, and what is left of its processes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import msgspec

from tests.fake_youtube import Spawned
from tests.stand.processes import descendants
from tests.stand.waiting import until
from ytmp3.converter import Converted
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.settings import ConversionLimits, ToolSettings
from ytmp3.converter.tools import deno_path, youtube_program
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Report
from ytmp3.core.recipe import Quality, Recipe

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
class RunningPipeline:
    """A pipeline, its scratch folders and its reports."""

    pipeline: Pipeline
    spawner: Spawner
    folder: Path
    reports: list[Report] = field(default_factory=list)
    on_report: Callable[[Report], None] = lambda _: None
    count: int = 0

    async def convert(self, video_id: str, quality: Quality = Quality.K128) -> Converted:
        self.count += 1
        scratch = self.folder / f"scratch-{self.count}"
        scratch.mkdir()
        return await self.pipeline.convert(VideoId(video_id), Recipe(quality=quality), scratch, self._report)

    def _report(self, report: Report) -> None:
        self.reports.append(report)
        self.on_report(report)

    @property
    def zygote_pid(self) -> int:
        process = self.spawner._process
        assert process is not None
        return process.pid

    @property
    def tools(self) -> list[int]:
        """The processes running under the zygote."""
        return sorted(descendants(self.zygote_pid))

    async def no_tool_is_left(self) -> None:
        """Return once no tool runs: a killed grandchild may still be ending when its leader has been reaped."""
        await until(lambda: not self.tools, "no tool of the pipeline runs", poll_seconds=0.01)


@asynccontextmanager
async def running_pipeline(
    youtube: Spawned,
    folder: Path,
    *,
    ffmpeg: Path | None = None,
    has_proxy: bool = True,
    zygote: Sequence[str] = (),
    cores: Cores | None = None,
    **changed: Any,
) -> AsyncIterator[RunningPipeline]:
    """Open a pipeline, and close it at the end. `changed` are limits.

    `zygote`: the text of a Python program to start as the zygote, and its arguments. It behaves as on another machine,
    and ends by calling `ytmp3.converter.youtube.__main__.main()`.
    """
    settings = ToolSettings(
        ffmpeg_path=ffmpeg,
        egress_proxy=youtube.proxy_url if has_proxy else None,
        egress_ca_file=youtube.ca_file,
        cookies_file=None,
        extract_concurrency=4,
        encode_concurrency=3,
    )
    program = youtube_program(settings, deno=deno_path())
    if zygote:
        program = msgspec.structs.replace(program, arguments=("-c", *zygote))
    spawner = Spawner(program)
    pipeline = Pipeline(settings, limits(**changed), folder, spawner=spawner, cores=cores)
    await pipeline.open()
    try:
        yield RunningPipeline(pipeline, spawner, folder)
    finally:
        await pipeline.close()
