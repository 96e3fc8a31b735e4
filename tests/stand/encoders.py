"""A slow ffmpeg, so that a test can act while a track is being encoded."""

from pathlib import Path
from typing import Final

import imageio_ffmpeg

SCRIPT: Final = """#!/bin/sh
# In the folder `tools` the service checks that ffmpeg works; that may be as quick as ever.
[ "${{PWD##*/}}" = tools ] || set -- -readrate 0.1 "$@"
exec {ffmpeg} "$@"
"""


def slow_ffmpeg(folder: Path) -> Path:
    """Write a program for FFMPEG_PATH that reads its input at a tenth of the speed of its sound: a clip takes 300 s."""
    path = folder / "slow-ffmpeg"
    path.write_text(SCRIPT.format(ffmpeg=imageio_ffmpeg.get_ffmpeg_exe()))
    path.chmod(0o755)
    return path
