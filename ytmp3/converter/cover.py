"""A thumbnail becomes a square cover. Never a reason to fail: whatever goes wrong, there is no cover then."""

import os
from pathlib import Path
from typing import Final

from ytmp3.converter.child import Spawner, ToolsLostError
from ytmp3.converter.ffmpeg import JPEG_MAGIC, cover_arguments
from ytmp3.converter.protocol import Walls
from ytmp3.converter.short_run import ShortRun, run_briefly
from ytmp3.converter.tag import MAX_COVER_BYTES

COVER_SECONDS: Final = 5.0

MEMORY_BYTES: Final = 2**30
"""Address space: the program alone takes 0.3 GiB of it. A picture of 30,000 x 30,000 points does not fit."""


async def square_cover(spawner: Spawner, ffmpeg: str, thumbnail: Path, *, letterboxed: bool) -> bytes | None:
    """Return a square JPEG made from the picture in `thumbnail`, or None."""
    try:
        source = os.open(thumbnail, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.pread(source, len(JPEG_MAGIC), 0) != JPEG_MAGIC:
            return None
        answer = await run_briefly(
            spawner,
            ShortRun(
                argv=cover_arguments(ffmpeg, letterboxed=letterboxed),
                source=source,
                descriptors=[],
                folder=str(thumbnail.parent),
                walls=Walls(file_bytes=0, cpu_seconds=int(COVER_SECONDS), memory_bytes=MEMORY_BYTES),
                seconds=COVER_SECONDS,
                max_answer_bytes=MAX_COVER_BYTES + 1,
            ),
        )
    except (OSError, TimeoutError, ToolsLostError):
        return None
    finally:
        os.close(source)
    is_whole = answer.status == 0 and answer.output[:3] == JPEG_MAGIC and len(answer.output) <= MAX_COVER_BYTES
    return answer.output if is_whole else None
