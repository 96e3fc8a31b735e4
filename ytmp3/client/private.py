"""A private service for users who run none: the client starts it on a free port, and stops it at its own end.

Its data folder is in the user's cache folder, and is removed when every track is saved. If the client is killed before
that, the next run finds the jobs and tracks there, and continues.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

END_SECONDS: Final = 30.0
"""Longest wait, in seconds, for the service to end after SIGTERM. It needs up to 12 s to end its child processes."""
START_SECONDS: Final = 60.0
"""Longest wait, in seconds, for the service to listen. It takes two seconds on an idle machine."""
SHOWN_LINES: Final = 5
"""Number of lines of the service's log that are shown if it does not start."""
_PDEATHSIG: Final = 1
"""PR_SET_PDEATHSIG of <linux/prctl.h>."""
_NOT_INHERITED: Final = frozenset(
    {
        "REDIS_ADDR", "REDIS_PASSWORD", "REDIS_DB", "API_KEYS_FILE", "ACCEL_REDIRECT_PREFIX", "PUBLIC_URL",
        "TRUSTED_PROXIES", "CORS_ORIGINS", "CLIENT_REQUESTS_PER_SECOND", "CLIENT_MAX_JOBS", "CLIENT_MAX_DOWNLOADS",
        "STORAGE_URL",
    }
)  # fmt: skip
"""Settings that only matter for a shared service. Those of conversions, such as EGRESS_PROXY, also apply to a private
service."""


class NoService(Exception):
    """No service can be started here. The text says why."""


class PrivateService:
    """A running service. The caller sets `is_done` when its data folder need not be kept."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_done = False


@contextmanager
def private_service() -> Iterator[PrivateService]:
    """Start a service, and end it afterwards.

    Raises:
        NoService
    """
    if importlib.util.find_spec("ytmp3.serve") is None:
        raise NoService("the service is not installed here: name one with --server, or install the whole ytmp3 package")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "ytmp3-get"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        running = _Running(folder)
    except (NoService, OSError):
        # Another client uses the folder, or it cannot be written. A folder of its own cannot be continued later.
        folder = Path(tempfile.mkdtemp(prefix="ytmp3-get-"))
        running = _Running(folder)
    service = PrivateService(running.url)
    try:
        yield service
    finally:
        running.end()
        if service.is_done or folder.parent != cache:
            shutil.rmtree(folder, ignore_errors=True)


class _Running:
    """The process of the service."""

    def __init__(self, folder: Path) -> None:
        log_path = folder / "log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ytmp3", "serve"],
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the client, which then ends the service
                preexec_fn=_end_with_parent,  # noqa: PLW1509  the client has one thread
            )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        line = self._process.stdout.readline() if ready else b""
        try:
            self.url = str(json.loads(line)["url"])
        except (ValueError, LookupError, TypeError):
            self.end()
            lines = log_path.read_text(errors="replace").strip().splitlines()[-SHOWN_LINES:]
            raise NoService("the service does not start: " + ("; ".join(lines) or "it gave no reason")) from None

    def end(self) -> None:
        """End the process, its child processes included."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _environment(folder: Path) -> Mapping[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    # Where the client runs from a checkout or from another folder, the service must find the same package.
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    private = {
        "PYTHONPATH": paths, "HOST": "127.0.0.1", "PORT": "0", "DATA_DIR": str(folder), "DRAIN_SECONDS": "0",
        "LOG_FORMAT": "json", "LOG_LEVEL": "warning", "REQUESTS_PER_SECOND": "1000", "BURST_SIZE": "1000",
    }  # fmt: skip
    return inherited | private


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM to the service when the client ends, however it ends. Runs in the new process."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
