"""Asks the server's solver, from the downloading child: blocking, with a time limit, and not again after a failure."""

import socket
import time
from urllib.parse import urlsplit

import msgspec

from ytmp3.converter.solver.messages import (
    MAX_LINE_BYTES,
    MAX_SCRIPT_BYTES,
    Answer,
    Challenges,
    LinkRefused,
    Question,
    ScriptNeeded,
    Solve,
    Solved,
    Unavailable,
    decode_answer,
    encode,
)
from ytmp3.converter.youtube.lines import read_line


class NoSolutionError(Exception):
    """The solver has no solution. yt-dlp goes on to its own deno."""


class SolverClient:
    """The child's end of its connection to the solver. `ask_seconds`: longest wait for an answer."""

    def __init__(self, descriptor: int, ask_seconds: float) -> None:
        self._ask_seconds = ask_seconds
        self._socket = socket.socket(fileno=descriptor)
        self._generations: dict[str, int] = {}
        self.is_usable = True
        """False after a failure: the connection may then hold half a message."""

    def solve(self, player: str, requests: list[Challenges], script: str | None) -> list[dict[str, str]] | None:
        """Return the solutions, in the order of the requests; None if the solver needs the script first.

        Raises:
            NoSolutionError
        """
        content = b"" if script is None else script.encode("utf-8", "replace")
        if len(content) > MAX_SCRIPT_BYTES:
            raise NoSolutionError("the player script is too large")
        match answer := self._ask(Solve(player=player, requests=requests, script_bytes=len(content)), content):
            case Solved():
                self._generations[player] = answer.generation
                return answer.results
            case ScriptNeeded() if script is None:
                return None
            case Unavailable(reason=reason):
                raise NoSolutionError(reason)
        raise NoSolutionError("the solver wants the script again")

    def link_refused(self, url: str) -> bool:
        """YouTube answered 403 to this link. If it contains a solution, tell the solver to parse the script again.

        Returns whether it does.
        """
        if not (self._generations and is_solved(url)):
            return False
        generations, self._generations = self._generations, {}
        try:
            for player, generation in generations.items():
                self._send(LinkRefused(player=player, generation=generation), b"", time.monotonic() + self._ask_seconds)
        except OSError:
            self.is_usable = False
        return True

    def close(self) -> None:
        """Close the connection."""
        self.is_usable = False
        self._socket.close()

    def _ask(self, question: Question, content: bytes) -> Answer:
        deadline = time.monotonic() + self._ask_seconds
        try:
            self._send(question, content, deadline)
            line = read_line(self._socket, deadline, piece_bytes=MAX_LINE_BYTES, max_bytes=2 * MAX_LINE_BYTES)
            answer: Answer = decode_answer(line)
        except (OSError, msgspec.MsgspecError) as error:
            self.is_usable = False
            raise NoSolutionError(f"no answer from the solver: {error}") from error
        return answer

    def _send(self, question: Question, content: bytes, deadline: float) -> None:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        self._socket.sendall(encode(question) + b"\n" + content)


def is_solved(url: str) -> bool:
    """Whether a link to media contains a solution, in its query or (a manifest's) in its path."""
    parts = urlsplit(url)
    is_media = (parts.hostname or "").endswith(".googlevideo.com")
    return is_media and ("&n=" in f"&{parts.query}" or "/n/" in parts.path)
