"""What a converter is configured with."""

from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct


class ConversionLimits(Struct, frozen=True, kw_only=True):
    """What one conversion may cost. This program enforces each limit itself, whatever yt-dlp and ffmpeg do."""

    max_duration_seconds: float
    """Longest video: the announced duration, and the duration measured while encoding."""
    max_file_bytes: int
    """Largest download, and largest MP3."""
    extract_seconds: float = 60.0
    download_seconds: float = 900.0
    encode_seconds: float = 600.0
    """For up to one hour of audio; longer audio gets proportionally more."""
    idle_seconds: float = 60.0
    """Longest time without a new byte from YouTube, or without progress of the encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSettings:
    """What an operator may choose about yt-dlp, its JS runtime and ffmpeg."""

    ffmpeg_path: Path | None
    """None: the binary of the imageio-ffmpeg wheel."""
    egress_proxy: str | None = field(repr=False)
    """The URL may hold a password, so it is not shown."""
    egress_ca_file: Path | None
    """A certificate authority to trust in addition to the system's."""
    cookies_file: Path | None
    extract_concurrency: int
    """Extractions at once in this instance."""
    encode_concurrency: int
    """Encoders at once in this instance."""
