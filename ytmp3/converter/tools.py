"""Which programs are used, and where they are: resolved once, at the start."""

import sys
import sysconfig
from pathlib import Path

import imageio_ffmpeg
from msgspec import json

from ytmp3.converter.sandbox.spawner import ZygoteProgram
from ytmp3.converter.settings import ToolSettings
from ytmp3.converter.youtube.events import Preload


def ffmpeg_path(settings: ToolSettings) -> str:
    """Return the ffmpeg to use. It may be missing: then the health check and every conversion say so."""
    if settings.ffmpeg_path is not None:
        return str(settings.ffmpeg_path)
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        return "/nonexistent/ffmpeg"


def deno_path() -> str | None:
    """Return the binary of the deno package, which is installed beside the interpreter's scripts; None if it is not."""
    path = Path(sysconfig.get_path("scripts"), "deno")
    return str(path) if path.exists() else None


def youtube_program(settings: ToolSettings, *, deno: str | None) -> ZygoteProgram:
    """Return what to start as the zygote: this interpreter with yt-dlp, from the server's own packages."""
    preload = Preload(
        egress_proxy=settings.egress_proxy,
        egress_ca_file=None if settings.egress_ca_file is None else str(settings.egress_ca_file),
        deno_path=deno,
    )
    return ZygoteProgram(
        arguments=("-m", "ytmp3.converter.youtube"),
        path=tuple(sys.path),
        environment={"YTDLP_NO_PLUGINS": "1"},
        preload=json.encode(preload),
    )
