"""The real messages of yt-dlp for each kind. `python -m tests.fake_youtube.evidence` writes `messages.json` anew."""

import dataclasses
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from .kinds import Kind, video_id, watch_url
from .server import Pace
from .spawn import Spawned, spawn

MESSAGES_FILE: Final = Path(__file__).with_name("messages.json")
PROBE_SECONDS: Final = 500
"""How long one yt-dlp process may take for all its videos; no busy machine reaches it."""
SOCKET_SECONDS: Final = 60.0
"""yt-dlp's timeout for a response. It must not end a request on a busy machine: a retry would change the counts."""
SILENT: Final = frozenset({Kind.STALLED, Kind.HANGS})
"""Kinds that never respond, or stop in the middle: yt-dlp ends them by its timeout, which is short for them."""
SILENT_SECONDS: Final = 3.0
# yt-dlp downloads these for as long as it may.
WITHOUT_END: Final = frozenset({Kind.ENDLESS, Kind.CUT_LOOP, Kind.HUGE_ANSWER, Kind.BOMB})
MAX_BYTES: Final = 20_000_000
_ROOT: Final = Path(__file__).resolve().parents[2]

# What yt-dlp 2026.10.26 raises, searched in the text of its exception; kinds that are missing raise nothing.
MESSAGES: Final[dict[Kind, str]] = {
    Kind.CUT_ONCE: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.FORBIDDEN_ONCE: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.FORBIDDEN: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.MEDIA_429: r"unable to download video data: HTTP Error 429: Too Many Requests",
    Kind.MEDIA_500: r"Got error: HTTP Error 500: Internal Server Error\. Giving up after \d+ retries",
    Kind.STALLED: r"Got error: The read operation timed out\. Giving up after \d+ retries",
    Kind.CUT: r"Got error: .*Remote end closed connection without response.*\. Giving up after \d+ retries",
    Kind.EMPTY: r"unable to download video data: HTTP Error 416: Requested Range Not Satisfiable",
    # The proxy's refusal.
    Kind.TO_METADATA: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.TO_LOOPBACK: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.TO_ITSELF: r"HTTP Error 302: Found \(redirect loop detected\)",
    Kind.TO_FILE: r"HTTP Error 302: Found",
    Kind.TO_CHAIN: r"HTTP Error 302: Found \(redirect loop detected\)",
    # The cause is in the warnings only.
    Kind.HANGS: r"No video formats found!",
    Kind.GARBLED: r"No video formats found!",
    Kind.PAGE_429: r"Failed to extract any player response",
    Kind.PAGE_500: r"Unable to download API page: HTTP Error 500: Internal Server Error",
    Kind.CAPTCHA: r"YouTube is requiring a captcha challenge before playback",
    Kind.OTHER_VIDEO: r"All player responses are invalid\. Your IP is likely being blocked by Youtube",
    Kind.BOT_CHECK: r"Sign in to confirm you.re not a bot\.",
    Kind.RATE_LIMITED: r"This content isn.t available, try again later\..*has been rate-limited by YouTube",
    Kind.PRIVATE: r"Private video\. Sign in if you've been granted access to this video\.",
    Kind.REMOVED: r"Video unavailable\. This video has been removed by the uploader",
    Kind.COPYRIGHT: r"Video unavailable\. This video is no longer available due to a copyright claim by ",
    Kind.UNAVAILABLE: r"Video unavailable\. This video is unavailable",
    Kind.TERMINATED: r"YouTube account associated with this video has been terminated\.",
    Kind.AGE: r"Sign in to confirm your age\. This video may be inappropriate for some users\.",
    Kind.MEMBERS: r"Join this channel to get access to members-only content",
    Kind.REGION: r"The uploader has not made this video available in your country",
    Kind.UPCOMING: r"This live event will begin in ",
    Kind.PREMIERE: r"Premieres in ",
    Kind.DRM: r"This video is DRM protected",
    Kind.NO_AUDIO: r"Requested format is not available\.",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of yt-dlp for one video."""

    found: dict[str, Any] | None
    error: str | None
    chain: tuple[str, ...]
    warnings: tuple[str, ...]
    wall_seconds: float
    cpu_seconds: float
    children_cpu_seconds: float
    file: Path


def bundle(ca_file: Path, folder: Path) -> Path:
    """Write a file for SSL_CERT_FILE: the machine's trusted authorities, and that of the fake YouTube."""
    system = ssl.get_default_verify_paths().cafile
    path = folder / "bundle.pem"
    path.write_bytes((Path(system).read_bytes() if system else b"") + b"\n" + ca_file.read_bytes())
    return path


def ask_all(youtube: Spawned, folder: Path, kinds: Iterable[Kind]) -> dict[Kind, Finding]:
    """Run yt-dlp on one video of each kind, with the short timeout for those that are silent."""
    found: dict[Kind, Finding] = {}
    for is_silent in (True, False):
        chosen = [kind for kind in kinds if (kind in SILENT) == is_silent]
        part = folder / ("silent" if is_silent else "others")
        part.mkdir()
        seconds = SILENT_SECONDS if is_silent else SOCKET_SECONDS
        found |= zip(chosen, ask(youtube, part, map(video_id, chosen), socket_seconds=seconds), strict=True)
    return found


def ask(
    youtube: Spawned,
    folder: Path,
    videos: Iterable[str],
    *,
    download: bool = True,
    socket_seconds: float = SOCKET_SECONDS,
) -> list[Finding]:
    """Run yt-dlp on videos, one after the other, in one child process."""
    files = {identifier: folder / f"{number}.media" for number, identifier in enumerate(videos)}
    order = {
        "proxy": youtube.proxy_url,
        "bundle": str(bundle(youtube.ca_file, folder)),
        "download": download,
        "timeout": socket_seconds,
        "max_bytes": MAX_BYTES,
        "videos": [{"url": watch_url(identifier), "file": str(file)} for identifier, file in files.items()],
    }
    command = [sys.executable, "-m", "tests.fake_youtube.probe"]
    child = subprocess.run(
        command, cwd=_ROOT, input=json.dumps(order), capture_output=True, text=True, check=True, timeout=PROBE_SECONDS
    )
    return [
        Finding(
            **{**answer, "chain": tuple(answer["chain"]), "warnings": tuple(answer["warnings"])}, file=files[identifier]
        )
        for identifier, answer in zip(files, json.loads(child.stdout), strict=True)
    ]


def main() -> None:
    kinds = [kind for kind in Kind if kind not in WITHOUT_END]
    with (
        tempfile.TemporaryDirectory() as name,
        spawn(Path(name), prepare=kinds, pace=Pace(delay_seconds=0.5)) as youtube,
    ):
        findings = ask_all(youtube, Path(name), kinds)
    messages = {
        kind: {"error": finding.error, "exceptions": finding.chain, "warnings": finding.warnings}
        for kind, finding in findings.items()
        if finding.error or finding.warnings
    }
    MESSAGES_FILE.write_text(json.dumps(messages, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
