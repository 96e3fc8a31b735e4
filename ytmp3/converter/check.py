"""Do the tools answer? Asked afresh each time, in the way a conversion uses them and behind the same walls."""

import os
import re
from pathlib import Path
from typing import Final

from ytmp3.converter import ToolCheck
from ytmp3.converter.audio.encoder import MEMORY_BYTES
from ytmp3.converter.audio.ffmpeg import FILE, encode_arguments
from ytmp3.converter.audio.mp3 import Mp3Error, walk
from ytmp3.converter.sandbox.protocol import Ready, Walls
from ytmp3.converter.sandbox.short_run import Answer, ShortRun, run_briefly
from ytmp3.converter.sandbox.spawner import Spawner, ToolsLostError
from ytmp3.core.recipe import Quality, Recipe

CHECK_SECONDS: Final = 10.0
ANSWER_BYTES: Final = 64 * 1024
DETAIL_CHARACTERS: Final = 200

# The switches are yt-dlp's own for deno: no network, no packages, no cache, the script on standard input.
_DENO: Final = (
    *("run", "--ext=js", "--no-code-cache", "--no-prompt", "--no-remote", "--no-lock", "--node-modules-dir=none"),
    *("--no-config", "--no-npm", "--cached-only", "-"),
)
# A puzzle of the kind YouTube sets: take a function apart, put it together again, turn a word around.
_PUZZLE: Final = b"""
const text = String(function turn(word) { return word.split("").reverse().join(""); });
console.log(new Function(text + "; return turn('3pmty')")());
"""
_SOLUTION: Final = b"ytmp3"


class Checker:
    """Asks each tool in turn."""

    def __init__(self, spawner: Spawner, *, ffmpeg: str, deno: str | None, folder: Path) -> None:
        self._spawner = spawner
        self._ffmpeg = ffmpeg
        self._deno = deno
        self._folder = folder

    async def check(self) -> list[ToolCheck]:
        """Return one verdict each on yt-dlp, its solver, the JS runtime and ffmpeg."""
        try:
            ready = await self._spawner.ready()
        except ToolsLostError as error:
            return [ToolCheck(name="yt-dlp", ok=False, version=None, detail=str(error))]
        return [
            ToolCheck(name="yt-dlp", ok=True, version=ready.yt_dlp, detail="preloaded"),
            _solver_check(ready),
            await self._check_deno(ready),
            await self._check_ffmpeg(ready),
        ]

    async def _check_deno(self, ready: Ready) -> ToolCheck:
        if self._deno is None:
            return ToolCheck(name="deno", ok=False, version=None, detail="not installed: pip install deno")
        walls = Walls(file_bytes=2**20, cpu_seconds=int(CHECK_SECONDS), network=True)
        answer = await self._run([self._deno, *_DENO], _PUZZLE, [], walls)
        ok = answer.output.strip() == _SOLUTION
        detail = "solves a puzzle" if ok else _first_line(answer.complaints, answer.status)
        return ToolCheck(name="deno", ok=ok, version=ready.deno, detail=detail)

    async def _check_ffmpeg(self, ready: Ready) -> ToolCheck:
        walls = Walls(file_bytes=2**20, cpu_seconds=int(CHECK_SECONDS), memory_bytes=MEMORY_BYTES)
        about = await self._run([self._ffmpeg, "-version"], b"", [], walls)
        version = re.match(rb"ffmpeg version (\S+)", about.output)
        target = os.memfd_create("check", os.MFD_CLOEXEC)
        try:
            arguments = encode_arguments(self._ffmpeg, source=FILE, demuxer="wav", recipe=Recipe(quality=Quality.K128))
            answer = await self._run(arguments, _second_of_silence(), [target], walls)
            detail = _encoding_detail(os.pread(target, ANSWER_BYTES, 0), answer)
        finally:
            os.close(target)
        ok = detail is None
        network = "" if ready.network_walls else "; this kernel has no seccomp filters: network not walled off"
        return ToolCheck(
            name="ffmpeg",
            ok=ok,
            version=version[1].decode("ascii", "replace") if version else None,
            detail=("encodes MP3 from and to descriptors" if detail is None else detail) + network,
        )

    async def _run(self, argv: list[str], source: bytes, descriptors: list[int], walls: Walls) -> Answer:
        """Run a tool; what goes wrong is an answer too."""
        stdin = os.memfd_create("check", os.MFD_CLOEXEC)
        try:
            os.pwrite(stdin, source, 0)
            run = ShortRun(
                argv=argv,
                source=stdin,
                descriptors=descriptors,
                folder=str(self._folder),
                walls=walls,
                seconds=CHECK_SECONDS,
                max_answer_bytes=ANSWER_BYTES,
            )
            return await run_briefly(self._spawner, run)
        except TimeoutError:
            return Answer(status=-1, output=b"", complaints="no answer in time")
        except ToolsLostError as error:
            return Answer(status=-1, output=b"", complaints=str(error))
        finally:
            os.close(stdin)


def _solver_check(ready: Ready) -> ToolCheck:
    # yt-dlp refuses a solver of another version than the one it was released with.
    ok = ready.yt_dlp_ejs is not None and ready.ejs_wanted in {None, ready.yt_dlp_ejs}
    detail = "is the one yt-dlp wants" if ok else f"yt-dlp wants {ready.ejs_wanted}: pip install yt-dlp-ejs"
    return ToolCheck(name="yt-dlp-ejs", ok=ok, version=ready.yt_dlp_ejs, detail=detail)


def _encoding_detail(encoded: bytes, answer: Answer) -> str | None:
    """Return what is wrong with the test's MP3, None if nothing is."""
    if answer.status != 0:
        return _first_line(answer.complaints, answer.status)
    try:
        walk(encoded)
    except Mp3Error as error:
        return f"the MP3 it makes is broken: {error}"
    return None


def _first_line(complaints: str, status: int) -> str:
    lines = complaints.strip().splitlines() or ["nothing said"]
    return f"status {status}: {lines[0][:DETAIL_CHARACTERS]}"


def _second_of_silence() -> bytes:
    samples = bytes(2 * 8000)
    length = len(samples)
    return (
        b"RIFF" + (36 + length).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
        + b"\x01\0\x01\0" + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little") + b"\x02\0\x10\0"
        + b"data" + length.to_bytes(4, "little") + samples
    )  # fmt: skip
