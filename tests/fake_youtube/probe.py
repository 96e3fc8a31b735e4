"""Runs the real yt-dlp, as a library, against the fake YouTube: the child of `evidence`.

Reads one JSON object from standard input, prints a list: what yt-dlp found or said of each video, in order.
"""

import json
import os
import resource
import sys
import time
from typing import Any

_KEPT = ("id", "title", "uploader", "duration", "live_status", "thumbnail", "format_id", "ext", "acodec", "filesize")


class _Said:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        pass

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def error(self, message: str) -> None:
        pass


def _options(asked: dict[str, Any], said: _Said, file: str) -> dict[str, Any]:
    return {
        "proxy": asked["proxy"],
        # certifi would be trusted instead of SSL_CERT_FILE; `requests` words its errors in another way than urllib.
        # Both are there in a development environment and not in production's: so they are left out everywhere.
        "compat_opts": {"no-certifi", "prefer-legacy-http-handler"},
        "allowed_extractors": ["youtube"],
        "cachedir": False,
        "color": "never",
        "fixup": "never",
        "format": "bestaudio/best[acodec!=none]",
        "logger": said,
        "noprogress": True,
        "outtmpl": {"default": file},
        "quiet": True,
        "retries": 1,
        "extractor_retries": 1,
        "retry_sleep_functions": {"http": lambda n: 0, "extractor": lambda n: 0},
        "max_filesize": asked["max_bytes"],
        "socket_timeout": asked["timeout"],
    }


def _chain(failure: BaseException | None) -> list[str]:
    """Name the exception, its cause and so on, with HTTP's status: what a classifier can rely on besides words."""
    chain: list[str] = []
    while failure is not None and len(chain) < 6:
        status = getattr(failure, "status", None)
        chain.append(type(failure).__name__ + (f" {status}" if status else ""))
        exc_info = getattr(failure, "exc_info", None)
        failure = getattr(failure, "cause", None) or (exc_info[1] if exc_info else None)
    return chain


def _probe(asked: dict[str, Any], video: dict[str, str]) -> dict[str, Any]:
    import yt_dlp

    said = _Said()
    answer: dict[str, Any] = {"error": None, "found": None, "chain": []}
    used, began = time.process_time(), time.monotonic()
    with yt_dlp.YoutubeDL(_options(asked, said, video["file"])) as ydl:
        try:
            found = ydl.extract_info(video["url"], download=asked["download"])
            answer["found"] = {name: found.get(name) for name in _KEPT} if found else None
        except yt_dlp.utils.YoutubeDLError as failure:
            answer |= {"error": str(failure), "chain": _chain(failure)}
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        **answer,
        "warnings": said.warnings,
        "wall_seconds": round(time.monotonic() - began, 3),
        "cpu_seconds": round(time.process_time() - used, 3),
        "children_cpu_seconds": round(children.ru_utime + children.ru_stime, 3),
    }


def main() -> None:
    asked: dict[str, Any] = json.load(sys.stdin)
    # Read by OpenSSL each time that a TLS context is made.
    os.environ["SSL_CERT_FILE"] = asked["bundle"]
    print(json.dumps([_probe(asked, video) for video in asked["videos"]]))


if __name__ == "__main__":
    main()
