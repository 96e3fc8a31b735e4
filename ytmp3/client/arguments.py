"""The commands of the client and their options, for `ytmp3` and for the client alone."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

STALL_SECONDS: Final = 120.0
"""Default of --give-up-after, in seconds: enough for about five attempts that do not reach YouTube."""
FORMATS: Final = ("mp3", "m4a", "opus")
"""The values of --format: those of the service, whose modules the client alone does not have."""
COPIED_FORMATS: Final = frozenset({"m4a", "opus"})
"""The formats in which the service copies YouTube's own sound, so that there is no quality to choose."""
COMMANDS: Final = frozenset({"get", "listen", "probe", "status", "jobs", "cancel", "completion", "man"})

_GET: Final = """\
Convert links and save the tracks. Without --server (or YTMP3_SERVER), the service on this machine is used if there is
one at 127.0.0.1:8080; otherwise one is started for this command alone. A command that was interrupted can be repeated:
it continues where it stopped.
"""
_LISTEN: Final = """\
Play a video as MP3 while the service converts it. The audio goes to standard output if that is no terminal, and
otherwise to the first installed player of mpv, ffplay and vlc. The service is chosen as by `get`.
"""
_PROBE: Final = """\
Show what YouTube offers for videos: languages, formats with their sizes, and chapters. Nothing is converted.
"""
PROBE_SECONDS: Final = 60.0
"""Longest wait of `probe`, in seconds, for a service that is busy or waits for YouTube itself."""
_CODES: Final = """\
exit codes: 0 all done, 1 some failed, 2 wrong usage, 3 no service, 4 gave up waiting, 130 interrupted with Ctrl-C
environment: YTMP3_SERVER, YTMP3_API_KEY
"""


def add_commands(commands: Any) -> None:
    """Add the client's commands to the subparsers of a parser."""
    get = _command(commands, "get", "convert links and save the tracks", _GET)
    get.add_argument("links", metavar="LINK", nargs="*", help="a link to a video, its id, or a link to a playlist")
    get.add_argument("-i", "--input", metavar="FILE", help="read links from FILE, one per line; - is standard input")
    get.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path(), help="folder for the tracks (here)")
    get.add_argument(
        "-f",
        "--format",
        metavar="F",
        type=str.lower,
        choices=FORMATS,
        help="mp3 (default), or YouTube's own audio, not encoded again: m4a (AAC) or opus",
    )
    _add_recipe(get)
    for name in ("title", "artist", "album"):
        get.add_argument(f"--{name}", metavar="TEXT", help=f"{name} in the tags of the track, instead of the usual one")
    get.add_argument("--no-cover", action="store_true", help="leave out the picture")
    get.add_argument(
        "--loudness",
        metavar="L",
        help="off (default), tags (measure it, for players), or for mp3 a target such as -14 LUFS",
    )
    get.add_argument("-p", "--playlist", action="store_true", help="of a video in a playlist, take the whole playlist")
    get.add_argument("--track-numbers", action="store_true", help="number the tracks of a playlist in their tags")
    get.add_argument("--split-chapters", action="store_true", help="save each chapter of a video as an mp3 of its own")
    _add_service_options(get)
    get.add_argument("--no-wait", action="store_true", help="submit the links, print the jobs' ids, and exit")
    listen = _command(commands, "listen", "play a video while it is converted", _LISTEN, is_printing=False)
    listen.add_argument("link", metavar="LINK", help="a link to a video, or its id")
    listen.add_argument("--player", metavar="COMMAND", help="a player that reads standard input, such as 'mpv -'")
    _add_recipe(listen)
    _add_service_options(listen)
    listen.set_defaults(no_wait=False, json=False)
    probe = _command(commands, "probe", "show what YouTube offers for videos", _PROBE)
    probe.add_argument("links", metavar="LINK", nargs="+", help="a link to a video, or its id")
    status = _command(commands, "status", "show jobs", "Show jobs, and the batches of playlists, by their ids.")
    status.add_argument("jobs", metavar="JOB", nargs="+")
    jobs = _command(commands, "jobs", "list the jobs of your API key", "List the jobs of your API key, newest first.")
    jobs.add_argument("-n", "--number", metavar="N", type=int, default=20, help="show at most N jobs (default: 20)")
    cancel = _command(commands, "cancel", "cancel jobs", "Cancel jobs, and the batches of playlists, by their ids.")
    cancel.add_argument("jobs", metavar="JOB", nargs="+")
    for name, summary in (
        ("completion", 'print the completion for bash and zsh: eval "$(ytmp3 completion)"'),
        ("man", "print the man page: ytmp3 man | man -l -"),
    ):
        commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.").set_defaults(commands=commands)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the sound."""
    parser.add_argument(
        "-q", "--quality", metavar="Q", help="of an mp3: 192k (default), 128k, 320k, V0 ...: see docs/api.md"
    )
    parser.add_argument(
        "-l",
        "--language",
        metavar="TAG",
        help="language of the audio: original (default), or a tag such as de or en-US",
    )
    parser.add_argument(
        "--start", metavar="TIME", help="start of the part to convert (mp3), such as 1:30; link: the time in the link"
    )
    parser.add_argument("--end", metavar="TIME", help="end of the part to convert (mp3), such as 1:02:03.5")


def _add_service_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for waiting, and for a service of the command's own."""
    parser.add_argument(
        "--give-up-after",
        metavar="SECONDS",
        type=_seconds,
        default=STALL_SECONDS,
        help=f"give up when nothing has advanced for so long and attempts fail (default: {STALL_SECONDS:g}; 0: never)",
    )
    parser.add_argument(
        "--private", action="store_true", help="start a service for this command, even if one runs here"
    )


def _command(
    commands: Any, name: str, summary: str, description: str, *, is_printing: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--server", metavar="URL", type=_server, help="the service, such as https://example.org/ytmp3")
    parser.add_argument("--key-file", metavar="FILE", type=Path, help="a file with the API key (or YTMP3_API_KEY)")
    if is_printing:
        parser.add_argument("--json", action="store_true", help="print one line of JSON for each link or job")
    return parser


def server_of(given: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the address of the service that the user names, or None.

    Raises:
        argparse.ArgumentTypeError: YTMP3_SERVER is no address.
    """
    named = environ.get("YTMP3_SERVER")
    return given or (_server(named) if named else None)


def key_of(path: Path | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the API key from the file, or else from the environment. Arguments are visible to other users.

    Raises:
        OSError: the file cannot be read.
        argparse.ArgumentTypeError: the file does not contain exactly one key.
    """
    text = environ.get("YTMP3_API_KEY", "") if path is None else path.read_text(encoding="utf-8", errors="replace")
    words = text.split()
    if len(words) > 1 or (path is not None and not words) or not all(word.isascii() for word in words):
        raise argparse.ArgumentTypeError("the file or variable of the key must have one key, and nothing else")
    return words[0] if words else None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _server(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} is no address such as https://example.org/ytmp3")
    return text.rstrip("/")
