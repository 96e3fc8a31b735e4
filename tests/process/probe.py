"""Runs the real yt-dlp, as a library, on one video: the child of `test_fake_youtube`.

Reads one JSON object from standard input (proxy, bundle, url, folder, download), prints one: what yt-dlp found or said.
"""

import json
import os
import resource
import sys
import time
from typing import Any

# OpenSSL reads it when a context is made; yt-dlp listens to it only with `no-certifi`.
asked: dict[str, Any] = json.load(sys.stdin)
os.environ["SSL_CERT_FILE"] = asked["bundle"]

import yt_dlp  # noqa: E402

KEPT = ("id", "title", "uploader", "duration", "live_status", "thumbnail", "format_id", "ext", "acodec", "filesize")


class Said:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def debug(self, message: str) -> None:
        pass

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def error(self, message: str) -> None:
        self.errors.append(message)


def main() -> None:
    said = Said()
    options = {
        "proxy": asked["proxy"],
        "compat_opts": {"no-certifi"},
        "allowed_extractors": ["youtube"],
        "cachedir": False,
        "color": "never",
        "format": "bestaudio/best[acodec!=none]",
        "logger": said,
        "noprogress": True,
        "outtmpl": {"default": os.path.join(asked["folder"], "media.bin")},
        "quiet": True,
        "retries": 1,
        "extractor_retries": 1,
        "retry_sleep_functions": {"http": lambda n: 0, "extractor": lambda n: 0},
        "max_filesize": 500_000_000,
        "socket_timeout": asked.get("timeout", 5),
    }
    answer: dict[str, Any] = {"error": None}
    used, began = time.process_time(), time.monotonic()
    with yt_dlp.YoutubeDL(options) as ydl:
        try:
            found = ydl.extract_info(asked["url"], download=asked["download"])
            answer["found"] = {name: found.get(name) for name in KEPT} if found else None
        except yt_dlp.utils.YoutubeDLError as failure:
            answer["error"] = str(failure)
    answer["wall_seconds"] = round(time.monotonic() - began, 3)
    answer["cpu_seconds"] = round(time.process_time() - used, 3)
    answer["children_cpu_seconds"] = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, 3)
    print(json.dumps({**answer, "warnings": said.warnings, "errors": said.errors}))


if __name__ == "__main__":
    main()
