"""Starts the job store of a released version in a process of its own, and calls it."""

import asyncio
import json
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent


class OldInstance:
    """An instance of a released version. `await old("name", ...)` calls a method of `program.Instance`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, name: str, *arguments: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
        answer = json.loads(await self._process.stdout.readline())
        if isinstance(answer, dict) and set(answer) == {"error"}:
            raise AssertionError(answer["error"])
        return answer


@asynccontextmanager
async def old_instance(version: str, address: str, folder: Path) -> AsyncIterator[OldInstance]:
    """Run the job store of a version on the Redis server at `address`. Its code is unpacked into `folder`."""
    with tarfile.open(FOLDER / f"{version}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(FOLDER / "program.py"), address),
        env={"PYTHONPATH": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        yield OldInstance(process)
    finally:
        process.stdin.close()
        await process.wait()
