"""Runs the real yt-dlp, as a library, against the fake YouTube: what the child processes of `evidence` do."""

import os
import resource
import time
from typing import Any

import yt_dlp

_KEPT = ("id", "title", "uploader", "duration", "live_status", "thumbnail", "format_id", "ext", "acodec", "filesize")
_KEPT_OF_FORMAT = ("format_id", "protocol", "ext", "acodec", "vcodec", "language", "audio_channels", "available_at")


class _Log:
    """A logger that remembers. yt-dlp's screen lines arrive as debug messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        self.lines.append(message)

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def error(self, message: str) -> None:
        pass


def _options(asked: dict[str, Any], log: _Log, file: str) -> dict[str, Any]:
    options = {
        "proxy": asked["proxy"],
        # certifi would be trusted instead of SSL_CERT_FILE; `requests` words its errors in another way than urllib.
        # Both are installed in a development environment and not in production's, so both are left out.
        "compat_opts": {"no-certifi", "prefer-legacy-http-handler"},
        "allowed_extractors": ["youtube"],
        "cachedir": False,
        "color": "never",
        "fixup": "never",
        "format": asked["format"],
        "logger": log,
        "noprogress": True,
        "outtmpl": {"default": file},
        "quiet": True,
        "retries": 1,
        "fragment_retries": 1,
        "extractor_retries": 1,
        "retry_sleep_functions": {"http": lambda n: 0, "fragment": lambda n: 0, "extractor": lambda n: 0},
        "max_filesize": asked["max_bytes"],
        "socket_timeout": asked["timeout"],
        "verbose": asked["verbose"],
    }
    arguments = asked["arguments"] | ({"player_client": asked["clients"]} if asked["clients"] else {})
    if arguments:
        options["extractor_args"] = {"youtube": arguments}
    if asked["sort"]:
        options["format_sort"] = asked["sort"]
    if asked["chunk_bytes"]:
        options["http_chunk_size"] = asked["chunk_bytes"]
    return options


def _chain(failure: BaseException | None) -> list[str]:
    """Name the exception, its cause and so on, with HTTP's status: what a classifier can rely on besides words."""
    chain: list[str] = []
    while failure is not None and len(chain) < 6:
        status = getattr(failure, "status", None)
        chain.append(type(failure).__name__ + (f" {status}" if status else ""))
        exc_info = getattr(failure, "exc_info", None)
        failure = getattr(failure, "cause", None) or (exc_info[1] if exc_info else None)
    return chain


def _formats(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {name: each.get(name) for name in _KEPT_OF_FORMAT} | {"url": each.get("url")}
        for each in found.get("formats") or ()
    ]


def _probe(asked: dict[str, Any], video: dict[str, str]) -> dict[str, Any]:
    log = _Log()
    answer: dict[str, Any] = {"error": None, "found": None, "chain": [], "formats": []}
    used, began = time.process_time(), time.monotonic()
    with yt_dlp.YoutubeDL(_options(asked, log, video["file"])) as ydl:
        try:
            found = ydl.extract_info(video["url"], download=asked["download"])
            answer["found"] = {name: found.get(name) for name in _KEPT} if found else None
            answer["formats"] = _formats(found or {})
        except yt_dlp.utils.YoutubeDLError as failure:
            answer |= {"error": str(failure), "chain": _chain(failure)}
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        **answer,
        "warnings": log.warnings,
        "lines": log.lines if asked["verbose"] else [],
        "wall_seconds": round(time.monotonic() - began, 3),
        "cpu_seconds": round(time.process_time() - used, 3),
        "children_cpu_seconds": round(children.ru_utime + children.ru_stime, 3),
        "children_peak_bytes": children.ru_maxrss * 1024,
    }


def answers_to(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what yt-dlp found or said of each video, in order."""
    # Read by OpenSSL each time that a TLS context is made.
    os.environ["SSL_CERT_FILE"] = asked["bundle"]
    return [_probe(asked, video) for video in asked["videos"]]
