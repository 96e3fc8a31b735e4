"""Folders that hang or are read-only, by mounts; this needs root.

A folder hangs as that of an NFS server that is gone: it is a FUSE file system whose server never answers.
"""

import asyncio
import contextlib
import ctypes
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

DEVICE: Final = Path("/dev/fuse")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def can_mount() -> bool:
    """Return whether this machine can mount such a folder."""
    return os.geteuid() == 0 and DEVICE.exists()


def _mount(folder: Path) -> int:
    """Mount the file system on `folder`; return the descriptor of its server. Closing it ends all calls that hang."""
    server = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0,allow_other"
    if _LIBC.mount(b"hanging", os.fsencode(folder), b"fuse", 0, options.encode()) != 0:
        error = ctypes.get_errno()
        os.close(server)
        raise OSError(error, os.strerror(error), str(folder))
    return server


@contextmanager
def hanging(*folders: Path) -> Iterator[None]:
    """Let every call of a file in these folders hang while the block runs."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            server = _mount(folder)
            stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
            stack.callback(os.close, server)
        yield


@contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    """Let every write to these folders fail while the block runs."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
            stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield


def hanging_for_others(*folders: Path) -> AbstractAsyncContextManager[None]:
    """Do as `hanging` from a coroutine of the process whose calls hang."""
    return _in_a_thread(hanging(*folders))


def read_only_for_others(*folders: Path) -> AbstractAsyncContextManager[None]:
    """Do as `read_only` from a coroutine."""
    return _in_a_thread(read_only(*folders))


@asynccontextmanager
async def _in_a_thread(block: AbstractContextManager[None]) -> AsyncIterator[None]:
    with contextlib.ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, block)
        try:
            yield
        finally:
            await asyncio.to_thread(stack.close)
