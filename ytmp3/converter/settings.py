"""What a converter is configured with."""

from pathlib import Path

from msgspec import Struct


class ConversionLimits(Struct, frozen=True, kw_only=True):
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


class ToolSettings(Struct, frozen=True, kw_only=True):
    """What an operator may choose about the tools."""

    ffmpeg_path: Path | None
    """None for the imageio-ffmpeg wheel's binary."""
    egress_proxy: str | None
    egress_ca_file: Path | None
    """Trusted beside the system's authorities."""
    cookies_file: Path | None
    extract_concurrency: int
    encode_concurrency: int
    work_folder: Path
    """For what tools want to write outside a conversion (their health check)."""
