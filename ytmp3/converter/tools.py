"""Which programs are used, and where they are: resolved once, at the start."""

import sysconfig
from pathlib import Path

import imageio_ffmpeg
from msgspec import Struct


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


def ffmpeg_path(settings: ToolSettings) -> str:
    """Return the ffmpeg to use; it may be missing, which `check` and every conversion then say."""
    if settings.ffmpeg_path is not None:
        return str(settings.ffmpeg_path)
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        return "/nonexistent/ffmpeg"


def deno_path() -> str | None:
    """Return the deno wheel's binary, which is installed beside the interpreter's scripts."""
    path = Path(sysconfig.get_path("scripts"), "deno")
    return str(path) if path.exists() else None
