"""The processes of a fleet, each with several instances. Each is ended by its own pid."""

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from redis import Redis

from scripts.fleet.figures import Counts, Figures, Sample, figures
from scripts.fleet.servers import nodes_of, write_identities
from tests.stand.logs import last_lines
from tests.stand.ports import free_port
from tests.stand.service_process import ROOT
from tests.stand.valkey import redis_use

START_SECONDS: Final = 600.0
"""Longest time until all instances are ready."""
STOP_SECONDS: Final = 60.0
"""Longest time, in seconds, until a process has ended by itself."""


class Process:
    """One process with several instances."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self._process = process
        self._log_path = log_path

    async def line(self) -> bytes:
        """Return the next line that it prints.

        Raises:
            RuntimeError: it has ended; the text is the end of its log.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(last_lines(self._log_path))
        return line

    async def counts(self) -> Counts:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return msgspec.json.decode(await self.line(), type=Counts)

    async def end(self) -> None:
        """Let it end by itself, and kill it if it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class Fleet:
    """The processes, the Redis nodes, and the clients."""

    def __init__(self, processes: Sequence[Process], nodes: Sequence[Redis], instances: int) -> None:
        self._processes = processes
        self._nodes = nodes
        self.instances = instances

    async def prepare(self, per_hour: float, instances: int) -> None:
        """Do nothing: all instances run, with the identities that the highest rate needs."""

    async def sample(self) -> Sample:
        counts = await asyncio.gather(*(process.counts() for process in self._processes))
        nodes = [redis_use(await asyncio.to_thread(node.info)) for node in self._nodes]
        return Sample(at=time.monotonic(), nodes=nodes, counts=list(counts), client_seconds=time.process_time())

    async def measure(self, seconds: float) -> Figures:
        """Measure the instances while nobody asks them."""
        before = await self.sample()
        await asyncio.sleep(seconds)
        return figures(before, await self.sample(), instances=self.instances, cores=os.cpu_count() or 1)

    def close(self) -> None:
        for node in self._nodes:
            node.close()


@asynccontextmanager
async def fleet(folder: Path, addresses: str, options: argparse.Namespace) -> AsyncIterator[tuple[Fleet, list[str]]]:
    """Start all instances on a Redis; yield the fleet and the URLs of its instances. End them when the block ends."""
    write_identities(folder, options.highest, options.identities)
    ports = [free_port() for _ in range(options.instances)]
    processes: list[Process] = []
    try:
        for number in range(options.processes):
            own = ports[number :: options.processes]
            if own:
                processes.append(await _process(folder, addresses, own, number, options))
        async with asyncio.timeout(START_SECONDS):
            for process in processes:
                await process.line()
        running = Fleet(processes, nodes_of(addresses), options.instances)
        try:
            yield running, [f"http://127.0.0.1:{port}" for port in ports]
        finally:
            running.close()
    finally:
        await asyncio.gather(*(process.end() for process in processes))


async def _process(
    folder: Path, addresses: str, ports: Sequence[int], number: int, options: argparse.Namespace
) -> Process:
    log_path = folder / f"process-{number}.log"
    arguments = {
        "--folder": folder,
        "--redis": addresses,
        "--ports": ",".join(map(str, ports)),
        "--median-seconds": options.median_seconds,
        "--seed": options.seed + number,
    }
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scripts.fleet.instances"),
            *(str(part) for pair in arguments.items() for part in pair),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=1 << 26,  # bytes of one line: the counts name every video
        )
    return Process(process, log_path)
