"""Runs the fake YouTube as a process of its own until SIGTERM or SIGINT.

Prints one line of JSON when it is ready (and writes it to --ready-file): proxy, ca, control, pid. On
standard error, it prints the commands that start a service which uses it, and that convert one link.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

from .fake import FakeYouTube
from .kinds import Kind
from .pace import Pace


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pace = Pace(slow_bytes_per_second=arguments.slow_rate, delay_seconds=arguments.delay)
    async with FakeYouTube.start(
        arguments.folder, cache=arguments.cache, pace=pace, weight=arguments.weight
    ) as youtube:
        await youtube.prepare(arguments.prepare)
        line = json.dumps(
            {
                "proxy": youtube.proxy_url,
                "ca": str(youtube.ca_file),
                "control": youtube.control_url,
                "pid": os.getpid(),
            }
        )
        if arguments.ready_file is not None:
            draft = arguments.ready_file.with_name(arguments.ready_file.name + ".draft")
            draft.write_text(line + "\n")
            draft.replace(arguments.ready_file)
        print(line, flush=True)
        settings = f"EGRESS_PROXY={youtube.proxy_url} EGRESS_CA_FILE={youtube.ca_file} EGRESS_VIDEOS_PER_HOUR=0"
        hint = f"In another terminal: {settings} make run\nOr, for one track: {settings} make get LINK=aqz-KE-bpKQ"
        print(hint, file=sys.stderr, flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fake_youtube", description=__doc__)
    parser.add_argument("--folder", type=Path, help="gets the certificates; a temporary folder if it is not named")
    parser.add_argument("--ready-file", type=Path, help="gets the line when all is ready")
    parser.add_argument("--cache", type=Path, help="keeps the media between runs")
    parser.add_argument("--prepare", type=Kind, nargs="*", default=[], metavar="KIND", help="kinds to make at start")
    parser.add_argument("--slow-rate", type=int, default=Pace().slow_bytes_per_second, help="bytes/s of kind slow")
    parser.add_argument("--delay", type=float, default=Pace().delay_seconds, help="seconds of kind delayed")
    parser.add_argument(
        "--weight", choices=("light", "real"), default="light", help="real: answers as heavy as YouTube's, by client"
    )
    arguments = parser.parse_args()
    # asyncio would log an error for each client that goes away in the middle of an answer.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="fake-youtube-") as temporary:
        arguments.folder = (arguments.folder or Path(temporary)).absolute()
        arguments.folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(_serve(arguments))


if __name__ == "__main__":
    main()
