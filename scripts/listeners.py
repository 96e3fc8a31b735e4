"""`python -m scripts.listeners`: fifty listeners of one conversion with the real yt-dlp and ffmpeg, several times.

A third of them hears everything, a third reads slowly until the others have ended, and a third leaves. Each round
checks that there is one extraction and one encoder, that nobody waits for a slow listener, and that no descriptor and
no file is left; and prints figures. The first failed check ends the script with a traceback.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.fake_youtube import Kind, spawn, video_id
from tests.stand.many_listeners import listen_together
from tests.stand.service_process import egress, service_process


async def main() -> None:
    """Run all rounds."""
    parser = argparse.ArgumentParser(prog="python -m scripts.listeners", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--listeners", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ytmp3-listeners-") as name:
        folder = Path(name)
        with spawn(folder / "youtube", prepare=(Kind.SONG,), weight="real") as youtube:
            settings = egress(youtube) | {"CLIENT_MAX_DOWNLOADS": str(options.listeners)}
            async with service_process(folder / "service", LOG_LEVEL="warning", **settings) as service:
                for number in range(options.rounds):
                    # 9.6 MB of sound: more than the kernel keeps for a listener that does not read.
                    video = video_id(Kind.SONG, 6200 + number)
                    figures = await listen_together(youtube, service, video, options.listeners, quality="320k")
                    print(f"round {number + 1}/{options.rounds}: {figures}", flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
