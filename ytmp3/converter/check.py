"""The health checks of yt-dlp, its challenge solver, the JavaScript runtime and ffmpeg.

Nothing is cached. Each program is run as in a conversion, with similar resource limits. A program that was killed, or
whose zygote died, is run once more: the kernel kills processes for lack of memory, which says nothing about a program.
"""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct, json

from ytmp3.converter import ToolCheck
from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.ffmpeg import FILE, MEMORY_BYTES, encode_arguments
from ytmp3.converter.audio.mp3 import walk
from ytmp3.converter.profiles import is_script, tool_profile
from ytmp3.converter.sandbox.protocol import Protections, ResourceLimits
from ytmp3.converter.sandbox.report import Report, report_of
from ytmp3.converter.sandbox.short_run import Completed, ShortRun, run_briefly
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError
from ytmp3.converter.solver.service import Solver
from ytmp3.converter.tokens import TokenProvider
from ytmp3.converter.youtube.events import Versions
from ytmp3.core.recipe import Quality, Recipe
from ytmp3.core.release import fits

CHECK_SECONDS: Final = 10.0
"""Longest time for one program, in seconds. It is generous, so that the check passes on a machine that is busy
converting."""

RUNS: Final = 2
"""How often one program is run at most, if it is killed."""

OUTPUT_BYTES: Final = 64 * 1024
"""Most bytes that are read of a program's output."""

DETAIL_CHARACTERS: Final = 200
"""Longest error text in a ToolCheck, in characters."""

# The switches that yt-dlp itself passes to deno: no network, no packages, no cache, the script on standard input.
_DENO: Final = (
    *("run", "--ext=js", "--no-code-cache", "--no-prompt", "--no-remote", "--no-lock", "--node-modules-dir=none"),
    *("--no-config", "--no-npm", "--cached-only", "-"),
)
# A small script with the features that YouTube's challenges use: convert a function to text, compile it again, and
# reverse a word with it.
_PUZZLE: Final = b"""
const text = String(function turn(word) { return word.split("").reverse().join(""); });
console.log(new Function(text + "; return turn('3pmty')")());
"""
_SOLUTION: Final = b"ytmp3"


class Programs(Struct, frozen=True, kw_only=True):
    """The paths of the programs."""

    ffmpeg: str
    deno: str | None
    """None: it is not installed."""


class Checker:
    """Checks one program after the other."""

    def __init__(
        self,
        spawner: Spawner,
        solver: Solver,
        tokens: TokenProvider,
        programs: Programs,
        *,
        folder: Path,
        describe_release: Callable[[], str],
    ) -> None:
        """`describe_release` returns which release of yt-dlp the zygote has loaded, in words for `/health`."""
        self._spawner = spawner
        self._solver = solver
        self._tokens = tokens
        self._ffmpeg = programs.ffmpeg
        self._ffmpeg_profile = None if is_script(programs.ffmpeg) else tool_profile(programs.ffmpeg)
        self._deno = programs.deno
        self._folder = folder
        self._describe_release = describe_release

    async def check(self) -> list[ToolCheck]:
        """Return one result for each program; if the zygote does not start, only one for yt-dlp. Never raises."""
        try:
            ready = await self._spawner.ready()
        except ZygoteError as error:
            return [ToolCheck(name="yt-dlp", ok=False, version=None, detail=str(error))]
        versions = json.decode(ready.preloaded, type=Versions)
        tokens = await self._tokens.check()
        return [
            ToolCheck(name="yt-dlp", ok=True, version=versions.yt_dlp, detail=self._describe_release()),
            solver_check(versions),
            await self._check_deno(versions),
            self._solver.check(),
            *(() if tokens is None else (tokens,)),
            await self._check_ffmpeg(),
            self._check_sandbox(ready.protections),
        ]

    async def missing_protections(self) -> tuple[str, ...]:
        """Return what a taken-over child process could do on this system. Raises ZygoteError."""
        ready = await self._spawner.ready()
        return self._report(ready.protections).missing

    def _check_sandbox(self, protections: Protections) -> ToolCheck:
        """Describe the sandbox. It is never a reason to be unready: SANDBOX=required refuses to start instead."""
        return ToolCheck(name="sandbox", ok=True, version=None, detail=self._report(protections).text)

    def _report(self, protections: Protections) -> Report:
        return report_of(protections, ffmpeg_is_script=self._ffmpeg_profile is None)

    async def _check_deno(self, versions: Versions) -> ToolCheck:
        if self._deno is None:
            return ToolCheck(name="deno", ok=False, version=None, detail="not installed: pip install deno")
        limits = ResourceLimits(
            file_bytes=2**20,
            cpu_seconds=int(CHECK_SECONDS),
            socket_pairs=True,
            profile=tool_profile(self._deno),
        )
        completed = await self._run([self._deno, *_DENO], _PUZZLE, limits)
        ok = completed.output.strip() == _SOLUTION
        detail = "solves a puzzle" if ok else failure_of(completed)
        return ToolCheck(name="deno", ok=ok, version=versions.deno, detail=detail)

    async def _check_ffmpeg(self) -> ToolCheck:
        limits = ResourceLimits(
            file_bytes=2**20,
            cpu_seconds=int(CHECK_SECONDS),
            memory_bytes=MEMORY_BYTES,
            profile=self._ffmpeg_profile,
        )
        about = await self._run([self._ffmpeg, "-version"], b"", limits)
        version = re.match(rb"ffmpeg version (\S+)", about.output)
        target = os.memfd_create("check", os.MFD_CLOEXEC)
        try:
            arguments = encode_arguments(self._ffmpeg, source=FILE, demuxer="wav", recipe=Recipe(quality=Quality.K128))
            completed = await self._run(arguments, _second_of_silence(), limits, target=target)
            error = _encoding_error(os.pread(target, OUTPUT_BYTES, 0), completed)
        finally:
            os.close(target)
        return ToolCheck(
            name="ffmpeg",
            ok=error is None,
            version=version[1].decode("ascii", "replace") if version else None,
            detail="encodes MP3 from and to descriptors" if error is None else error,
        )

    async def _run(
        self, argv: list[str], source: bytes, limits: ResourceLimits, *, target: int | None = None
    ) -> Completed:
        """Run a program, again if it was killed. If it cannot be run, the result says why; no error is raised.

        `target` becomes its descriptor 3. It is empty when a run begins.
        """
        completed = Completed(status=-1, output=b"", errors="")
        for _ in range(RUNS):
            try:
                completed = await self._run_once(argv, source, limits, target)
            except TimeoutError:
                return Completed(status=-1, output=b"", errors="no result in time")
            except ZygoteError as error:
                # The next run starts a new zygote.
                completed = Completed(status=-1, output=b"", errors=str(error))
            else:
                if completed.status != -signal.SIGKILL:
                    return completed
        return completed

    async def _run_once(self, argv: list[str], source: bytes, limits: ResourceLimits, target: int | None) -> Completed:
        stdin = os.memfd_create("check", os.MFD_CLOEXEC)
        try:
            os.pwrite(stdin, source, 0)
            if target is not None:
                os.ftruncate(target, 0)
                os.lseek(target, 0, os.SEEK_SET)
            run = ShortRun(
                argv=argv,
                source=stdin,
                descriptors=[] if target is None else [target],
                folder=str(self._folder),
                limits=limits,
                seconds=CHECK_SECONDS,
                max_output_bytes=OUTPUT_BYTES,
            )
            return await run_briefly(self._spawner, run)
        finally:
            os.close(stdin)


def solver_check(versions: Versions) -> ToolCheck:
    """Check that the version of the challenge solver fits yt-dlp. If not, `detail` has the command that fixes it."""
    installed, wanted = versions.yt_dlp_ejs, versions.ejs_wanted
    ok = installed is not None and (wanted is None or fits(installed, wanted))
    remedy = "pip install yt-dlp-ejs" if wanted is None else f"pip install yt-dlp-ejs=={wanted}"
    detail = "fits yt-dlp" if ok else f"yt-dlp wants {wanted or 'a solver'}: {remedy}"
    return ToolCheck(name="yt-dlp-ejs", ok=ok, version=versions.yt_dlp_ejs, detail=detail)


def _encoding_error(encoded: bytes, completed: Completed) -> str | None:
    """Return the error of the check's MP3, or None if it is correct."""
    if completed.status != 0:
        return failure_of(completed)
    try:
        walk(encoded)
    except BrokenError as error:
        return f"the MP3 it makes is broken: {error}"
    return None


def failure_of(completed: Completed) -> str:
    """Return why a program failed, in one line."""
    if completed.status == -signal.SIGILL:
        return "ended with SIGILL: this processor lacks instructions that the program uses (see docs/install.md)"
    lines = completed.errors.strip().splitlines() or ["no error text"]
    return f"status {completed.status}: {lines[0][:DETAIL_CHARACTERS]}"


def _second_of_silence() -> bytes:
    """Return a WAV file: one second, 8 kHz, mono, 16 bits."""
    samples = bytes(2 * 8000)
    length = len(samples)
    return (
        b"RIFF" + (36 + length).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
        + b"\x01\0\x01\0" + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little") + b"\x02\0\x10\0"
        + b"data" + length.to_bytes(4, "little") + samples
    )  # fmt: skip
