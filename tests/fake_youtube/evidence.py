"""The real messages of yt-dlp for each kind. `python -m tests.fake_youtube.evidence` writes `messages.json` anew."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import re
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from . import probe
from .kinds import Kind, video_id, watch_url
from .pace import Pace
from .spawn import spawn

MESSAGES_FILE: Final = Path(__file__).with_name("messages.json")
PROBE_SECONDS: Final = 500
"""How long one yt-dlp process may take for all its videos; no busy machine reaches it."""
SOCKET_SECONDS: Final = 60.0
"""yt-dlp's timeout for a response. It must not end a request on a busy machine: a retry would change the counts."""
SILENT: Final = frozenset({Kind.STALLED, Kind.HANGS})
"""Kinds that never respond, or stop in the middle: yt-dlp ends them by its timeout, which is short for them."""
SILENT_SECONDS: Final = 3.0
# Sound alone, else a format with both.
FORMAT: Final = "bestaudio/best[acodec!=none]"
# yt-dlp downloads these for as long as it may.
WITHOUT_END: Final = frozenset({Kind.ENDLESS, Kind.CUT_LOOP, Kind.HUGE_ANSWER, Kind.BOMB})
MAX_BYTES: Final = 20_000_000
_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([probe.__name__, "yt_dlp.extractor.youtube"])

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
    # Kinds of `UNKIND`, asked with yt-dlp's default clients.
    Kind.NOT_ON_APP: r"The following content is not available on this app\.\. Watch on the latest version of YouTube\.",
    Kind.OUT_OF_DATE: r"This app is out of date\. Update to the latest version of YouTube",
    Kind.NOT_ON_DEVICE: r"Video unavailable\. This video is unavailable on this device\.",
    Kind.RELOAD: r"The page needs to be reloaded\.",
    Kind.TRY_LATER: r"An error occurred\. Please try again later\.",
    Kind.WENT_WRONG: r"Something went wrong\.",
    Kind.PROCESSING: r"We're processing this video\. Check back later\.",
    Kind.OFFLINE: r"Offline\.",
    Kind.REFUSED_ONCE: r"Video unavailable\. This video is not available",
    Kind.RESTRICTED_MODE: r"This video is unavailable with Restricted Mode enabled\.",
    Kind.ADMINISTRATOR: r"This video is restricted\. Please check the Google Workspace administrator",
    Kind.CONTENT_WARNING: r"The following content may contain suicide or self-harm topics\.\. Viewer discretion",
    Kind.OVER_18: r"Sign in to confirm you're over 18\.",
    Kind.PLEASE_SIGN_IN: r"Please sign in\. Use --cookies",
    Kind.HATE_SPEECH: r"This video has been removed for violating YouTube's policy on hate speech\.",
    Kind.COPYRIGHT_BLOCK: r"content from Example Music, who has blocked it on copyright grounds\.",
    Kind.MEMBERS_LEVEL: r"available to this channel's members on level: Gold",
    # The cause is in the warnings only.
    Kind.API_403: r"No video formats found!",
    Kind.PRECONDITION: r"No video formats found!",
    Kind.QUOTA: r"No video formats found!",
    Kind.SORRY: r"Failed to extract any player response",
    Kind.SABR: r"Requested format is not available\.",
    Kind.UNSOLVABLE: r"Requested format is not available\.",
    # yt-dlp keeps the first client's copy of a format, so another client's good copy is not seen.
    Kind.DRM_TV: r"Requested format is not available\.",
    Kind.TV_FORBIDDEN: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.TV_FORBIDDEN_LATE: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.WRONG_SOLUTION: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.FORBIDDEN_AFTER_PART: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.SMALL_RANGES: r"unable to download video data: HTTP Error 403: Forbidden",
    Kind.EMPTY_ONCE: r"Did not get any data blocks",
    Kind.BUSY_TWICE: r"Got error: HTTP Error 503: Service Unavailable\. Giving up after 1 retries",
}


class Running(Protocol):
    """A fake YouTube, in this process or in another."""

    @property
    def proxy_url(self) -> str: ...
    @property
    def ca_file(self) -> Path: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of yt-dlp for one video."""

    found: dict[str, Any] | None
    formats: list[dict[str, Any]]
    error: str | None
    chain: tuple[str, ...]
    warnings: tuple[str, ...]
    lines: tuple[str, ...]  # with `verbose` only
    wall_seconds: float
    cpu_seconds: float
    children_cpu_seconds: float
    children_peak_bytes: int
    file: Path

    @property
    def links(self) -> dict[str, str]:
        """Addresses by the id of their format."""
        return {each["format_id"]: each["url"] for each in self.formats}

    @property
    def sounds(self) -> list[str]:
        """Ids of the formats with sound, also with a picture, each with its client: `251/VISIONOS`."""
        return [f"{each['format_id']}/{client_of(each['url'])}" for each in self.formats if each["acodec"] != "none"]


def fetch(youtube: Running, link: str, **headers: str) -> tuple[int, bytes]:
    """Ask once for a link, without yt-dlp; return status and body."""
    trusted = ssl.create_default_context(cafile=str(youtube.ca_file))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": youtube.proxy_url}), urllib.request.HTTPSHandler(context=trusted)
    )
    try:
        with opener.open(urllib.request.Request(link, headers=headers), timeout=SOCKET_SECONDS) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def client_of(link: str) -> str:
    """Return the client that a media link was made for."""
    found = re.search(r"[?&/]c[=/]([A-Z0-9_]+)", link)
    return found[1] if found else ""


def bundle(ca_file: Path, folder: Path) -> Path:
    """Write a file for SSL_CERT_FILE: the machine's trusted authorities, and that of the fake YouTube."""
    system = ssl.get_default_verify_paths().cafile
    path = folder / "bundle.pem"
    path.write_bytes((Path(system).read_bytes() if system else b"") + b"\n" + ca_file.read_bytes())
    return path


def ask(
    youtube: Running,
    folder: Path,
    videos: Iterable[str],
    *,
    download: bool = True,
    clients: Iterable[str] = (),
    verbose: bool = False,
    **options: Any,
) -> list[Finding]:
    """Run yt-dlp on videos, one after the other, in one child process.

    `clients` are names of yt-dlp's (its defaults when empty). `options` replace entries of the order to the child:
    `arguments` are extractor arguments, `chunk_bytes` is the size of a range, `sort` the order of formats.
    """
    files = {identifier: folder / f"{number}.media" for number, identifier in enumerate(videos)}
    order = {
        "proxy": youtube.proxy_url,
        "bundle": str(bundle(youtube.ca_file, folder)),
        "download": download,
        "format": FORMAT,
        "timeout": SOCKET_SECONDS,
        "max_bytes": MAX_BYTES,
        "clients": list(clients),
        "verbose": verbose,
        "arguments": {},
        "chunk_bytes": None,
        "sort": [],
        "videos": [{"url": watch_url(identifier), "file": str(file)} for identifier, file in files.items()],
        **options,
    }
    # One process for each call: yt-dlp keeps state in its modules. The processes are forks of one that has imported it.
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=_FORKS, max_tasks_per_child=1) as process:
        answers = process.submit(probe.answers_to, order).result(PROBE_SECONDS)
    return [
        Finding(
            **{
                **answer,
                "chain": tuple(answer["chain"]),
                "warnings": tuple(answer["warnings"]),
                "lines": tuple(answer["lines"]),
            },
            file=files[identifier],
        )
        for identifier, answer in zip(files, answers, strict=True)
    ]


def ask_all(youtube: Running, folder: Path, kinds: Iterable[Kind]) -> dict[Kind, Finding]:
    """Run yt-dlp on the first video of each kind that ends by itself."""
    silent = [kind for kind in kinds if kind in SILENT]
    others = [kind for kind in kinds if kind not in SILENT | WITHOUT_END]
    findings: dict[Kind, Finding] = {}
    for group, seconds in ((others, SOCKET_SECONDS), (silent, SILENT_SECONDS)):
        own = folder / str(int(seconds))
        own.mkdir()
        videos = [video_id(kind) for kind in group]
        findings |= zip(group, ask(youtube, own, videos, timeout=seconds), strict=True)
    return findings


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        spawn(Path(name), prepare=Kind, pace=Pace(delay_seconds=0.5)) as youtube,
    ):
        findings = ask_all(youtube, Path(name), Kind)
    messages = {
        kind: {"error": finding.error, "exceptions": finding.chain, "warnings": finding.warnings}
        for kind in Kind
        if (finding := findings.get(kind)) is not None and (finding.error or finding.warnings)
    }
    MESSAGES_FILE.write_text(json.dumps(messages, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
