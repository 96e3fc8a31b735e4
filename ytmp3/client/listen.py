"""The sound of a video for `ytmp3 listen`: from its beginning, while the service converts it.

The rule: the sound of two attempts is never joined. If the stream breaks, it has ended, and the caller says why.
"""

import argparse
import http.client
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import IO, Final

from ytmp3.client.api import UNREACHABLE_PAUSE_SECONDS, Api, Job, Refused, Unreachable
from ytmp3.client.stalls import Stalls

PLAYERS: Final = (
    ("mpv", "--no-video", "-"),
    ("ffplay", "-loglevel", "error", "-nodisp", "-autoexit", "-i", "-"),
    ("vlc", "--intf", "dummy", "--play-and-exit", "-"),
)
"""The commands of players that read sound from standard input. The first one that is installed is used."""
SOUND_SECONDS: Final = 90.0
"""Longest wait, in seconds, for the next bytes. The service itself waits up to 60 s for the next ones from YouTube."""
CHUNK_BYTES: Final = 1 << 16
"""Most bytes that are read and written at once: 2.7 s of sound at 192 kbit/s."""
PLAYER_END_SECONDS: Final = 3.0
"""How long, in seconds, a player may take to end after Ctrl-C, which the terminal also sends to it."""
_TRANSIENT: Final = frozenset({409, 429, 503})
_STREAM_ENDED: Final = (
    "the service ended the stream, for example because the player was paused for more than a minute: repeat the command"
)
"""The probable cause if the job has not failed: the service ends a stream that is not read for a minute."""


class SoundBroken(Exception):
    """The sound ended before its end. The text says why."""


class PlayerFailed(Exception):
    """The player ended with an error. The text says which."""


class OutputClosed(Exception):
    """The player, or the program that reads standard output, has ended. That is the user's wish."""


def player_command(given: str | None, *, is_terminal: bool, path: str | None = None) -> Sequence[str] | None:
    """Return the command of the player; None: the sound goes to standard output.

    `given` is the command that the user names. `path` has the folders of programs, as the variable PATH.

    Raises:
        argparse.ArgumentTypeError: the command is not installed or not well-formed; or standard output is a terminal,
            and there is no player.
    """
    if given is not None:
        try:
            words = shlex.split(given)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"--player is no command: {error}") from None
        if not words or shutil.which(words[0], path=path) is None:
            raise argparse.ArgumentTypeError(f"the player {words[0] if words else given!r} is not installed")
        return words
    if not is_terminal:
        return None
    for command in PLAYERS:
        if shutil.which(command[0], path=path) is not None:
            return command
    names = ", ".join(command[0] for command in PLAYERS)
    raise argparse.ArgumentTypeError(
        f"no player was found ({names}): install one, name another with --player, or send the audio to a file or a pipe"
    )


@contextmanager
def standard_output() -> Iterator[IO[bytes]]:
    """Yield standard output for bytes."""
    try:
        yield sys.stdout.buffer
    except (OutputClosed, OSError):
        # Otherwise Python would try to write the rest at its end, and report that this fails.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextmanager
def played_by(command: Sequence[str]) -> Iterator[IO[bytes]]:
    """Start a player and yield its standard input. Returns when the player has played everything and ended.

    Raises:
        PlayerFailed
        OSError: it cannot be started.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE) as player:  # noqa: S603  the user's own command
        assert player.stdin is not None
        try:
            yield player.stdin
        except OutputClosed:
            _close(player)
            _check(player)
            raise
        except BaseException:
            _close(player)
            with suppress(subprocess.TimeoutExpired):
                player.wait(PLAYER_END_SECONDS)
            player.terminate()
            raise
        _close(player)
        _check(player)


def _close(player: "subprocess.Popen[bytes]") -> None:
    assert player.stdin is not None
    with suppress(BrokenPipeError):
        player.stdin.close()


def _check(player: "subprocess.Popen[bytes]") -> None:
    if code := player.wait():
        raise PlayerFailed(f"the player ended with exit code {code}")


def listen(
    api: Api,
    job: Job,
    output: IO[bytes],
    stalls: Stalls,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write the sound of a job to `output`: while it is converted, or else the finished track.

    Raises:
        SoundBroken: the conversion failed or began again, or the connection broke.
        OutputClosed: the reader of `output` has ended.
        GaveUp: no attempt advances.
        Unreachable, Refused
        OSError: the sound cannot be written.
    """
    with _opened(api, job, stalls, sleep) as response:
        while chunk := _next(response):
            try:
                output.write(chunk)
                output.flush()
            except BrokenPipeError:
                raise OutputClosed from None


def reason_of_break(api: Api, job: Job) -> str:
    """Return what has become of a job whose sound broke."""
    try:
        job = api.status(job["job_id"])
    except (Refused, Unreachable) as error:
        return str(error)
    if job["status"] in {"pending", "processing"}:
        return f"the conversion began again, or {_STREAM_ENDED}"
    if job["status"] == "completed":
        return _STREAM_ENDED
    return "the job was cancelled" if job["error"] is None else str(job["error"]["message"])


def leave(api: Api, job: Job) -> None:
    """Cancel a job that still runs, because it has no listener left. A finished track is kept; errors are ignored."""
    api = replace(api, patience_seconds=0)
    with suppress(Refused, Unreachable):
        if api.status(job["job_id"])["status"] in {"pending", "processing"}:
            api.cancel(job["job_id"])


def _next(response: http.client.HTTPResponse) -> bytes:
    """Return the next bytes; none at the end.

    Raises:
        SoundBroken: the response is incomplete.
    """
    try:
        chunk = response.read1(CHUNK_BYTES)
    except (OSError, http.client.HTTPException):
        raise SoundBroken("the audio broke off") from None
    if not chunk and response.length:
        raise SoundBroken("the audio broke off")
    return chunk


def _opened(api: Api, job: Job, stalls: Stalls, sleep: Callable[[float], None]) -> http.client.HTTPResponse:
    """Wait until there is sound, and return the response with it."""
    while True:
        try:
            return api.open("GET", _address(job), seconds=SOUND_SECONDS)
        except Refused as error:
            if error.status not in _TRANSIENT:
                raise
            pause_seconds = error.retry_after_seconds or UNREACHABLE_PAUSE_SECONDS
        except Unreachable:
            pause_seconds = UNREACHABLE_PAUSE_SECONDS
        sleep(pause_seconds)
        job = api.status(job["job_id"])
        stalls.see_job(job)
        stalls.check()


def _address(job: Mapping[str, str | None]) -> str:
    """Return the path of the sound; of an ended job, that of the track, whose response says why there is none."""
    return job["listen_url"] or job["download_url"] or f"/download/{job['job_id']}.mp3"
