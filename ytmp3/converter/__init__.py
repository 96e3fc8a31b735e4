"""Link in, verified MP3 out: one Protocol, one adapter (`pipeline`), and the rooms it is made of.

A converter knows nothing of jobs, leases, HTTP or where tracks are kept: it turns a video id and a quality into a
verified MP3 in the scratch folder it is given, reporting as it goes, or raises a ConversionError.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from ytmp3.core.job import Metadata, Quality, Stage


class Limits(Struct, frozen=True, kw_only=True):
    """What one conversion may cost. Each is enforced by us, whatever the tools do (reliability goals P06, P07, L14)."""

    duration_seconds: float
    """Longest video, as announced, and as measured while encoding."""
    file_bytes: int
    """Largest download, and largest MP3."""
    extract_seconds: float = 60.0
    download_seconds: float = 900.0
    encode_seconds: float = 600.0
    """For an hour of sound at least; longer sound gets proportionally more."""
    idle_seconds: float = 60.0
    """Without a new byte from YouTube, or without progress of the encoder."""


class Report(Struct, frozen=True, kw_only=True):
    """News of a running conversion. `progress` is 0 to 1 over all stages and never falls."""

    stage: Stage
    progress: float
    metadata: Metadata | None = None
    """Given once, when the extraction has it."""


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
        self, video_id: str, quality: Quality, scratch: Path, report: Callable[[Report], None]
    ) -> Converted:
        """Convert one video. `scratch` is an empty folder of the caller's, who removes it whatever happens.

        Cancelling the task ends the tools (TERM, then KILL after 5 s, by group) before it returns.

        Raises:
            ConversionError: with the code that says whose matter it is.
            NoProcess: a ConversionError too; the next conversion would fare no better at once.
        """
