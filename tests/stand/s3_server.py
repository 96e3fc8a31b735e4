"""A real server that speaks S3 for tests, from a wheel: SeaweedFS with one bucket, on loopback.

It takes about 0.24 GB of memory, and SIGTERM takes more than ten seconds to end it. So all tests share one, which is
started when the first of them needs it, and killed by its pid at the end.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.stand.logs import last_lines
from tests.stand.ports import free_port
from ytmp3.storage import Description, ShelfDown
from ytmp3.storage.settings import S3Settings

START_SECONDS: Final = 120.0
"""How long a test waits until the server stores an object. It takes a second on an idle machine."""
KEY: Final = "test-key"
SECRET: Final = "test-secret"
BUCKET: Final = "tracks"
_PARTS: Final = ("master", "filer", "volume", "admin", "s3")


class S3Server:
    """One server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = {name: free_port() for part in _PARTS for name in (f"{part}.port", f"{part}.port.grpc")}
        self.endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        self._options = [f"-{name}={port}" for name, port in ports.items()]
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets = ""

    @property
    def log_path(self) -> Path:
        return self.folder / "weed.log"

    def settings(self, prefix: str, *, redirects: bool = False) -> S3Settings:
        """Return how the service reaches a part of the bucket, which no other test should use."""
        return S3Settings(
            bucket=BUCKET,
            prefix=prefix,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            redirects=redirects,
        )

    def environment(self, prefix: str, *, download: str = "proxy") -> dict[str, str]:
        """Return the same as environment variables of the service."""
        return {
            "STORAGE_URL": f"s3://{BUCKET}/{prefix}",
            "S3_ENDPOINT": self.endpoint,
            "S3_ACCESS_KEY_ID": KEY,
            "S3_SECRET_ACCESS_KEY": SECRET,
            "S3_DOWNLOAD": download,
        }

    def start(self) -> None:
        """Start, and return when an object can be stored.

        Raises:
            RuntimeError: the server has ended, or stores nothing; the text is the end of its log.
        """
        # Its Unix sockets are in the temporary folder; the path of a socket must be short.
        self._sockets = tempfile.mkdtemp(prefix="weed-")
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "TMPDIR": self._sockets}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("weed")),
                    "mini",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    f"-dir={self.folder}",
                    f"-bucket={BUCKET}",
                    "-admin.ui=false",
                    "-webdav=false",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    *self._options,
                ],
                env=os.environ | keys,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_it_stores()

    def kill(self) -> None:
        """Kill it, as a crash would. `start` starts it again, on the same port and files."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        shutil.rmtree(self._sockets, ignore_errors=True)

    def freeze(self) -> None:
        """Stop the process without ending it: connections stay open, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it, and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_until_it_stores(self) -> None:
        # The library is loaded only by the process that needs it.
        from ytmp3.storage.s3_requests import QUICK, Bucket

        assert self._process is not None
        bucket = Bucket(self.settings("start"), QUICK)
        description = Description(content_type="text/plain", content_disposition="attachment", sha256="")
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            try:
                bucket.put("object", b"content", description, 7)
            except ShelfDown:
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    raise RuntimeError(last_lines(self.log_path)) from None
                time.sleep(0.05)
            else:
                return
