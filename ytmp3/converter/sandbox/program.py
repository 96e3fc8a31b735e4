"""The program of a zygote, and its start. `spawner` decides when one is started."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

PATH: Final = "/usr/local/bin:/usr/bin:/bin"
"""The PATH of the zygote and of every child."""

NO_DENO_CACHE: Final = {"DENO_DIR": "/dev/null/deno"}
"""A cache folder that cannot exist. Otherwise each run of deno makes two SQLite databases there, with four fsyncs."""


class ZygoteProgram(Struct, frozen=True, kw_only=True):
    """The program of the zygote: a Python program that ends by calling `zygote.serve`."""

    arguments: Sequence[str]
    """The arguments of the interpreter, such as `("-m", "package.module")`."""
    path: Sequence[str]
    """The PYTHONPATH: the folders of the packages that the program imports."""
    environment: Mapping[str, str]
    """Environment variables in addition to PATH, LANG, HOME and PYTHONPATH. The program has no others."""
    preload: bytes
    """The first packet for the program, which is passed to its `preload` function."""


def start_zygote(program: ZygoteProgram, connection: socket.socket) -> subprocess.Popen[bytes]:
    """Start a zygote whose descriptor 0 is this connection.

    Raises:
        OSError: no process can be started.
    """
    environment = {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "PYTHONPATH": os.pathsep.join(program.path),
        **NO_DENO_CACHE,
        **program.environment,
    }
    return subprocess.Popen(  # noqa: S603  the program is one of ours
        [sys.executable, *program.arguments],
        stdin=connection.fileno(),
        env=environment,
        start_new_session=True,
    )
