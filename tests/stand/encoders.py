"""A slow ffmpeg, so that a test can act while a track is being encoded."""

from pathlib import Path
from typing import Final

import imageio_ffmpeg

SCRIPT: Final = """#!/bin/sh
# In the folder `tools` the service checks that ffmpeg works; that may be as quick as ever.
[ "${{PWD##*/}}" = tools ] || set -- -re "$@"
exec {ffmpeg} "$@"
"""


def real_time_ffmpeg(folder: Path) -> Path:
    """Write a program for FFMPEG_PATH that reads its input at the speed of its sound: a song takes its 240 s."""
    path = folder / "real-time-ffmpeg"
    path.write_text(SCRIPT.format(ffmpeg=imageio_ffmpeg.get_ffmpeg_exe()))
    path.chmod(0o755)
    return path
