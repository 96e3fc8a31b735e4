"""Starts the fake YouTube as a process of its own and ends it by its pid: for tests and benches of a whole server."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from .counting import Counts
from .fake import Weight
from .kinds import Kind
from .pace import Pace

_STOP_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 60.0
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spawned:
    """A running fake YouTube in another process, with the methods of the in-process one (all of them block)."""

    proxy_url: str
    ca_file: Path
    control_url: str
    pid: int

    def counts(self, identifier: str) -> Counts:
        return Counts(**self._ask(f"/counts/{identifier}"))

    @property
    def refused(self) -> tuple[str, ...]:
        return tuple(self._ask("/counts")["refused"])

    @property
    def trapped(self) -> int:
        return int(self._ask("/counts")["trapped"])

    def reset(self) -> None:
        """Forget the counts, and put the switches back."""
        self._ask("/reset", method="POST")

    def switch(self, **changes: Any) -> None:
        """Change switches (`switches.Switches`) from now on. Raises HTTPError 422 for an unknown name or value."""
        self._ask("/switches", method="PATCH", body=changes)

    @property
    def switches(self) -> dict[str, Any]:
        return self._ask("/switches")

    def expire_links(self) -> None:
        """Answer 403 to every media link that was made until now."""
        self._ask("/expire-links", method="POST")

    def totals(self) -> dict[str, Any]:
        """Return the counts of the whole fake: `connects`, `player_scripts`, `captcha_pages` and so on."""
        return self._ask("/counts")

    def _ask(self, path: str, *, method: str = "GET", body: object = None) -> dict[str, Any]:
        # Never through a proxy of the environment: the control port is on loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(
            self.control_url + path, method=method, data=None if body is None else json.dumps(body).encode()
        )
        with opener.open(request, timeout=_ANSWER_SECONDS) as response:
            answer: dict[str, Any] = json.load(response)
            return answer


@contextlib.contextmanager
def spawn(
    folder: Path,
    *,
    prepare: Iterable[Kind | str] = (),
    pace: Pace | None = None,
    cache: Path | None = None,
    weight: Weight = "light",
) -> Iterator[Spawned]:
    """Run `python -m tests.fake_youtube` until the block ends. Raises RuntimeError if it ends before it is ready."""
    pace = pace or Pace()
    command = [sys.executable, "-m", "tests.fake_youtube", "--folder", str(folder)]
    command += ["--slow-rate", str(pace.slow_bytes_per_second), "--delay", str(pace.delay_seconds)]
    command += ["--weight", weight]
    command += ["--cache", str(cache)] if cache else []
    command += ["--prepare", *map(str, prepare)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the fake YouTube ended with status {process.wait()} before it was ready")
            ready = json.loads(line)
            yield Spawned(
                proxy_url=ready["proxy"], ca_file=Path(ready["ca"]), control_url=ready["control"], pid=ready["pid"]
            )
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
