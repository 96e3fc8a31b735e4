"""`python -m scripts.listeners`: fifty listeners of one conversion with the real yt-dlp and ffmpeg, several times.

A third of them hears everything, a third reads slowly until the others have ended, and a third leaves. Each round
checks that there is one extraction and one encoder, that nobody waits for a slow listener, and that no descriptor and
no file is left; and prints figures. The first failed check ends the script with a traceback. `make soak` runs one
round.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.fake_youtube import Kind, Spawned, spawn, video_id
from tests.stand.many_listeners import listen_together
from tests.stand.service_process import egress, service_process

ROUND_SECONDS: Final = 1800.0
"""Longest time, in seconds, of one round. It takes half a minute on two idle cores, and many times that on a machine
with much other work, because encoders have a low priority."""
FIRST_NUMBER: Final = 6200
"""The number of the first round's video."""


async def listen_in_rounds(youtube: Spawned, folder: Path, *, rounds: int, listeners: int) -> None:
    """Start a service in `folder`, and run all rounds. `youtube` has Kind.SONG.

    Raises:
        TimeoutError: a round took longer than ROUND_SECONDS.
    """
    settings = egress(youtube) | {"CLIENT_MAX_DOWNLOADS": str(listeners)}
    async with service_process(folder, LOG_LEVEL="warning", **settings) as service:
        for number in range(rounds):
            # 9.6 MB of sound: more than the kernel keeps for a listener that does not read.
            video = video_id(Kind.SONG, FIRST_NUMBER + number)
            async with asyncio.timeout(ROUND_SECONDS):
                figures = await listen_together(youtube, service, video, listeners, quality="320k")
            print(f"listeners {number + 1}/{rounds}: {figures}", flush=True)


async def main() -> None:
    """Run all rounds."""
    parser = argparse.ArgumentParser(prog="python -m scripts.listeners", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--listeners", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ytmp3-listeners-") as name:
        folder = Path(name)
        with spawn(folder / "youtube", prepare=(Kind.SONG,), weight="real") as youtube:
            await listen_in_rounds(youtube, folder / "service", rounds=options.rounds, listeners=options.listeners)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
