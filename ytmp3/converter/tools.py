"""Which programs are used, and where they are: resolved once, at the start."""

import sysconfig
from pathlib import Path

import imageio_ffmpeg

from ytmp3.converter.settings import ToolSettings


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
