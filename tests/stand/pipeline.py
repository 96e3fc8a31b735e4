"""A converter pipeline of the test's own, working against the fake YouTube, and its child processes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import imageio_ffmpeg
import msgspec

from tests.fake_youtube import Spawned
from tests.stand.processes import descendants
from tests.stand.waiting import until
from tests.stand.zygote import KeepingSpawner, KeptZygotes, until_ready
from ytmp3.converter import ONLY_PASSAGE, Converted, Observer, Passage
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.live_sound import LiveSound
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.profiles import Profiles
from ytmp3.converter.sandbox.protocol import Profile
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.settings import ConversionLimits, Egress, ToolSettings
from ytmp3.converter.solver.service import Solver
from ytmp3.converter.tools import deno_path, youtube_program
from ytmp3.core.cut import WHOLE, Cut
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.job import Report, Stage
from ytmp3.core.language import ORIGINAL, Language
from ytmp3.core.loudness import Loudness, LoudnessMode
from ytmp3.core.recipe import Format, Quality, recipe_for

MIB = 2**20
_TOOLS = [each.name for each in fields(ToolSettings)]
FFMPEG: str = imageio_ffmpeg.get_ffmpeg_exe()
OUT_OF_REACH_SECONDS = 3600.0
"""A time limit of a step that no busy machine reaches."""
HANG_SECONDS = 60
"""How long the zygote may take to reply, more than in production: a busy machine may not run it for a while."""
_ZYGOTES: Final = KeptZygotes()
"""The idle zygotes of this process, which any test may take over."""


def limits(**changed: Any) -> ConversionLimits:
    """Return limits with these ones changed. By default no busy machine reaches a time limit."""
    usual = {"max_duration_seconds": 10_800.0, "max_file_bytes": 32 * MIB}
    usual |= dict.fromkeys(
        ("extract_seconds", "download_seconds", "encode_seconds", "idle_seconds"), OUT_OF_REACH_SECONDS
    )
    return ConversionLimits(**usual | changed)


def fake_encoder(folder: Path, body: str) -> Path:
    """Write a shell script to use as ffmpeg, and return its path. Its descriptor 3 is the file for the MP3."""
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@dataclass
class RunningPipeline:
    """An open pipeline, its scratch folders and its progress reports."""

    pipeline: Pipeline
    spawner: Spawner
    folder: Path
    reports: list[Report] = field(default_factory=list)
    on_report: Callable[[Report], None] = lambda _: None
    sound: LiveSound = field(default_factory=LiveSound)
    """What listeners hear of the latest conversion."""
    count: int = 0

    async def convert(
        self,
        video_id: str,
        quality: Quality = Quality.K128,
        format_: Format = Format.MP3,
        language: Language = ORIGINAL,
        passage: Passage = ONLY_PASSAGE,
        *,
        cut: Cut = WHOLE,
        loudness: Loudness = LoudnessMode.OFF,
    ) -> Converted:
        self.count += 1
        scratch = self.folder / f"scratch-{self.count}"
        scratch.mkdir()
        recipe = recipe_for(format_, quality, cut=cut, language=language, loudness=loudness)
        client = ClientId("addr:192.0.2.1")
        self.sound = LiveSound()
        observer = Observer(self._report, self.sound)
        return await self.pipeline.convert(VideoId(video_id), recipe, client, scratch, observer, passage)

    def _report(self, report: Report) -> None:
        self.reports.append(report)
        self.on_report(report)

    @property
    def progress(self) -> float:
        """The progress reported last."""
        return self.reports[-1].progress if self.reports else 0.0

    @property
    def stage(self) -> Stage | None:
        """The stage reported last."""
        return self.reports[-1].stage if self.reports else None

    @property
    def zygote_pid(self) -> int:
        process = self.spawner._process
        assert process is not None
        return process.pid

    @property
    def children(self) -> list[int]:
        """The processes running under the zygote, without those that the solver keeps."""
        return sorted(descendants(self.zygote_pid) - set(self.solver.warm_pids))

    @property
    def solver(self) -> Solver:
        return self.pipeline._generations.current.tools.solver

    async def until_reached(self, conversion: "asyncio.Task[Converted]", is_reached: Callable[[], object]) -> None:
        """Return once `is_reached` is true. If the conversion ends before, raise its error at once."""
        await until(lambda: conversion.done() or bool(is_reached()), "the stage is reached", poll_seconds=0.01)
        if conversion.done():
            raise AssertionError(f"it has ended before: {conversion.result()}")

    async def until_both_children_run(self) -> dict[str, int]:
        """Wait until a conversion downloads and encodes; return the process ids of "downloader" and "encoder"."""
        found: dict[str, int] = {}

        def both_run() -> bool:
            found.clear()
            for pid in self.children:
                with contextlib.suppress(OSError):
                    found[kind_of_child(pid)] = pid
            return len(found) == 2

        await until(both_run, "a downloader and an encoder run", poll_seconds=0.01)
        return found

    async def until_no_child_is_left(self) -> None:
        """Return once no child runs: a killed grandchild may still be ending when its leader has been reaped."""
        await until(lambda: not self.children, "no child process of the pipeline runs", poll_seconds=0.01)


def kind_of_child(pid: int) -> str:
    """Return whether a child of a zygote is an "encoder" or a "downloader".

    Raises:
        OSError: it has ended.
    """
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    # The second one, too: a fake encoder is a script, so its first argument is the shell.
    return "encoder" if any(b"/ffmpeg" in argument for argument in arguments[:2]) else "downloader"


class _WithPorts(Profiles, frozen=True, kw_only=True):
    """Profiles whose youtube child may connect to these ports instead of YouTube's."""

    ports: tuple[int, ...]

    def youtube_through(self, egress: Egress) -> Profile:
        return msgspec.structs.replace(super().youtube_through(egress), ports=self.ports)


@asynccontextmanager
async def running_pipeline(
    youtube: Spawned,
    folder: Path,
    *,
    ffmpeg: Path | None = None,
    has_proxy: bool = True,
    zygote: Sequence[str] = (),
    cores: Cores | None = None,
    has_solver: bool = True,
    **changed: Any,
) -> AsyncIterator[RunningPipeline]:
    """Open a pipeline, and close it at the end. Without the solver, yt-dlp itself starts deno.

    `changed`: fields of ToolSettings, limits, `hang_seconds` of the zygote, and `ports`, to which the downloading child
    may connect. If `is_kept` is false, the zygote is new, and no later test uses it.

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
    ports = tuple(changed.pop("ports", ()))
    settings = replace(settings, **{name: changed.pop(name) for name in _TOOLS if name in changed})
    program = youtube_program(settings, deno=deno_path())
    if zygote:
        program = msgspec.structs.replace(program, arguments=("-c", *zygote))
    hang_seconds = changed.pop("hang_seconds", HANG_SECONDS)
    if changed.pop("is_kept", True) and not zygote:
        spawner: Spawner = KeepingSpawner(program, _ZYGOTES, hang_seconds=hang_seconds)
    else:
        spawner = Spawner(program, hang_seconds=hang_seconds)
    pipeline = Pipeline(settings, limits(**changed), folder, spawner=spawner, cores=cores)
    if ports:
        generation = pipeline._generations.current
        profiles = generation.tools.profiles
        profiles = _WithPorts(ffmpeg=profiles.ffmpeg, youtube=profiles.youtube, ports=ports)
        generation.tools = msgspec.structs.replace(generation.tools, profiles=profiles)
    if not has_solver:
        pipeline._generations.current.tools.solver._deno = None
    try:
        await pipeline.open()
        await until_ready(spawner)
        yield RunningPipeline(pipeline, spawner, folder)
    finally:
        await pipeline.close()
