"""`make cluster`: a whole installation on loopback, from wheels. Three instances, Valkey and nginx, until Ctrl-C."""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from tests.fake_youtube import spawn
from tests.stand.cluster import cluster
from tests.stand.service_process import egress
from ytmp3.greeting import example_command


async def main() -> None:
    """Run a cluster until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m scripts.cluster", description=__doc__)
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--fake-youtube", action="store_true", help="convert offline, from tests/fake_youtube")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ytmp3-cluster-")))
        settings = egress(stack.enter_context(spawn(folder / "youtube"))) if options.fake_youtube else {}
        async with cluster(folder, settings, instances=options.instances, is_limited=True) as running:
            print(f"nginx      {running.url}\nvalkey     {running.valkey.address}")
            for service in running.instances:
                print(f"instance   {service.url}  pid {service.pid}  log {service.log_path}")
            print(f"try        {example_command(running.url)}\nstop       Ctrl-C; {folder} is then removed", flush=True)
            stopped = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
            await stopped.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
