"""Link in, verified MP3 out: one Protocol, one adapter (`pipeline`), and the rooms it is made of.

A converter knows nothing of jobs, leases, HTTP or where tracks are kept: it turns a video id and a recipe into a
verified MP3 in the scratch folder it is given, reporting as it goes, or raises a ConversionError.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from ytmp3.core.ids import VideoId
from ytmp3.core.job import Metadata, Report, Stage
from ytmp3.core.recipe import Recipe


class Converted(Struct, frozen=True, kw_only=True):
    """A verified MP3, tagged, in the scratch folder, not yet fsynced."""

    path: Path
    size_bytes: int
    duration_seconds: float
    """Measured by walking the MP3's frames."""
    sha256: str
    metadata: Metadata
    stage_seconds: dict[Stage, float]
    """Wall time spent in each stage, waiting for a gate not counted. For metrics."""


class ToolCheck(Struct, frozen=True, kw_only=True):
    """Whether one tool answers."""

    name: str
    ok: bool
    version: str | None
    detail: str
    """For the operator: what was tried and what came back; one line."""


class Converter(Protocol):
    """The contract of `pipeline.Pipeline`."""

    async def open(self) -> None:
        """Start the preloaded tool process. Never raises for a missing tool: `check` tells."""

    async def close(self) -> None:
        """End every process of this converter; returns when none is left."""

    async def check(self) -> list[ToolCheck]:
        """Ask yt-dlp, the JS runtime and ffmpeg whether they work (fresh, no cache; takes up to a second)."""

    async def convert(
        self, video_id: VideoId, recipe: Recipe, scratch: Path, on_progress: Callable[[Report], None]
    ) -> Converted:
        """Convert one video. `scratch` is an empty folder of the caller's, who removes it whatever happens.

        Cancelling the task ends the tools (TERM, then KILL after 5 s, by group) before it returns.

        Raises:
            ConversionError: with the code that says whose matter it is.
            NoProcess: a ConversionError too; the next conversion would fare no better at once.
        """
