"""The solver's deno processes: one that parses a player script and ends, and warm ones that keep a parsed script.

Both run without any of deno's permissions, behind the sandbox's network filter, with their own limits of memory and
CPU time. Nothing here trusts what they print: a player script controls it.
"""

import asyncio
import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.profiles import tool_profile
from ytmp3.converter.sandbox.pipes import Lines, Reader, Tail, resolve
from ytmp3.converter.sandbox.protocol import ResourceLimits
from ytmp3.converter.sandbox.short_run import ShortRun, run_briefly
from ytmp3.converter.sandbox.spawner import Child, Spawner, ZygoteError
from ytmp3.converter.solver.messages import MAX_LINE_BYTES, Challenges
from ytmp3.converter.solver.warm_program import WARM, parsing_program

DATA_BYTES: Final = 2 * 2**30
"""Private memory of deno, used or only reserved (RLIMIT_DATA). With a real player script it reserves 0.85 GB, of which
0.3 GB are used."""

PARSING_HEAP_MB: Final = 768
WARM_HEAP_MB: Final = 256
"""Largest JavaScript heap, in MiB: it bounds what a script can really use. Parsing a real one needs some 200, and the
functions kept of it some 30."""

PARSING_CPU_SECONDS: Final = 30
"""RLIMIT_CPU while parsing. It takes 1.2 s on a processor of 2024."""

WARM_CPU_SECONDS: Final = 600
"""RLIMIT_CPU of a warm process in its whole life. A song's challenges take less than a millisecond; a process that has
used this much is started again."""

PARSING_SECONDS: Final = 60.0
"""Longest time, in seconds, for parsing a script, and for loading a parsed one, also on a busy machine. Conversions
that wait for it time out earlier and start their own deno; later conversions use the result."""

ANSWER_SECONDS: Final = 15.0
"""Longest time, in seconds, for a reply of a warm process, also on a busy machine."""

MAX_PARSED_BYTES: Final = 16 * 2**20
"""Most output of the parsing process, in bytes. The parsed script is about as long as YouTube's, which has 2.7 MB."""

_OPTIONS: Final = (
    *("--no-code-cache", "--no-prompt", "--no-remote", "--no-lock", "--node-modules-dir=none", "--no-config"),
    *("--no-npm", "--cached-only"),
)


class SolverError(Exception):
    """No solution: deno did not start, ended, took too long, or did not understand the script."""


class Parsed(Struct, frozen=True, kw_only=True):
    """The result of yt-dlp-ejs for a player script."""

    script: str
    """The smaller script, for a warm process."""
    results: list[dict[str, str]]
    """The solutions of the first requests."""


class Deno(Struct, frozen=True, kw_only=True):
    """Starts deno processes."""

    spawner: Spawner
    path: str
    folder: Path
    """Its working folder. It cannot read or write there."""

    def limits(self, cpu_seconds: int) -> ResourceLimits:
        """Return the limits of a process that runs a player script."""
        return ResourceLimits(
            file_bytes=2**20,
            cpu_seconds=cpu_seconds,
            data_bytes=DATA_BYTES,
            socket_pairs=True,
            profile=tool_profile(self.path),
        )

    async def parse(self, script: str, requests: list[Challenges]) -> Parsed:
        """Parse a player script and solve the requests, in a process that ends.

        Raises:
            SolverError
        """
        source = os.memfd_create("player", os.MFD_CLOEXEC)
        try:
            os.pwrite(source, await asyncio.to_thread(parsing_program, script, requests), 0)
            run = ShortRun(
                argv=[self.path, "run", "--ext=js", *_OPTIONS, _heap(PARSING_HEAP_MB), "-"],
                source=source,
                descriptors=[],
                folder=str(self.folder),
                limits=self.limits(PARSING_CPU_SECONDS),
                seconds=PARSING_SECONDS,
                max_output_bytes=MAX_PARSED_BYTES,
            )
            completed = await run_briefly(self.spawner, run)
        except TimeoutError:
            raise SolverError(f"the script was not parsed within {PARSING_SECONDS:.0f} s") from None
        except (ZygoteError, OSError, ImportError) as error:
            raise SolverError(str(error)) from error
        finally:
            os.close(source)
        if completed.status != 0:
            raise SolverError(f"deno ended with status {completed.status}: {_first_line(completed.errors)}")
        return _parsed(completed.output, requests)

    async def warm(self, parsed: Parsed) -> "WarmProcess":
        """Start a process that keeps this script.

        Raises:
            SolverError
        """
        process = WarmProcess()
        try:
            await process.start(self)
            await process.ask({"script": parsed.script}, PARSING_SECONDS)
        except BaseException:
            await to_its_end(process.end())
            raise
        return process


class WarmProcess:
    """One deno process with the functions of one player script. One request at a time. Its owner must call `end`."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._stdin = -1
        self._readers: list[Reader] = []
        self._errors = Tail()
        self._last_id = 0
        self._is_asked = False
        self._reply: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        """The process id of deno."""
        return 0 if self._child is None else self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the process can take a request. After a cancelled request it cannot: half may have been written."""
        return self._child is not None and not self._child.ended.done() and not self._is_asked

    async def start(self, deno: Deno) -> None:
        """Start deno.

        Raises:
            SolverError
        """
        argv = [deno.path, "run", *_OPTIONS, _heap(WARM_HEAP_MB), f"data:text/javascript,{quote(WARM)}"]
        stdin, self._stdin = os.pipe()
        os.set_blocking(self._stdin, False)
        stdout_ours, stdout = os.pipe()
        stderr_ours, stderr = os.pipe()
        lines = Lines(2 * MAX_LINE_BYTES, self._on_line)
        self._readers = [Reader(stdout_ours, lines.add), Reader(stderr_ours, self._errors.add)]
        try:
            self._child = await deno.spawner.execute(
                argv, deno.limits(WARM_CPU_SECONDS), [stdin, stdout, stderr], folder=str(deno.folder)
            )
        except ZygoteError as error:
            raise SolverError(str(error)) from error
        finally:
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)

    async def solve(self, requests: list[Challenges]) -> list[dict[str, str]]:
        """Return the solutions, in the order of the requests.

        Raises:
            SolverError: this process is of no more use; `end` it.
        """
        reply = await self.ask({"requests": requests}, ANSWER_SECONDS)
        return _checked(reply.results, requests)

    async def ask(self, message: dict[str, Any], seconds: float) -> "_Reply":
        """Send one message and wait for its reply, at most so many seconds.

        Raises:
            SolverError
        """
        assert self._child is not None
        self._is_asked = True
        self._last_id += 1
        self._reply = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await _write_all(self._stdin, msgspec.json.encode({"id": self._last_id, **message}) + b"\n")
                futures: list[asyncio.Future[Any]] = [self._reply, self._child.ended]
                await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise SolverError(f"no answer within {seconds:.0f} s") from None
        except OSError as error:
            raise SolverError(f"deno is gone: {_first_line(self._errors.text())}") from error
        if not self._reply.done():
            raise SolverError(f"deno ended: {_first_line(self._errors.text())}")
        self._is_asked = False
        reply = self._reply.result()
        if reply.error is not None:
            raise SolverError(reply.error[:200])
        return reply

    def _on_line(self, line: bytes) -> None:
        try:
            reply = msgspec.json.decode(line, type=_Reply)
        except msgspec.MsgspecError:
            return
        if reply.id == self._last_id:
            resolve(self._reply, reply)

    async def end(self) -> None:
        """End the process. Returns when it is gone. Safe to call twice."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        if self._child is not None:
            await self._child.end()
        for reader in self._readers:
            reader.close()


class _Reply(Struct, frozen=True, kw_only=True):
    id: int
    results: list[dict[str, str]] = []
    error: str | None = None


class _Response(Struct, frozen=True, kw_only=True):
    """The result of `jsc` for one request: either `data` or `error`."""

    data: dict[str, str] = {}
    error: str | None = None


class _Output(Struct, frozen=True, kw_only=True):
    responses: list[_Response]
    preprocessed_player: str


def _parsed(output: bytes, requests: list[Challenges]) -> Parsed:
    try:
        decoded = msgspec.json.decode(output, type=_Output)
    except msgspec.MsgspecError as error:
        raise SolverError(f"yt-dlp-ejs returned something unexpected: {error}") from error
    for response in decoded.responses:
        if response.error is not None:
            raise SolverError(_first_line(response.error))
    results = _checked([response.data for response in decoded.responses], requests)
    return Parsed(script=decoded.preprocessed_player, results=results)


def _checked(results: list[dict[str, str]], requests: list[Challenges]) -> list[dict[str, str]]:
    """Return the results if they are for these requests. Raises SolverError if not."""
    if [set(result) for result in results] != [set(request.challenges) for request in requests]:
        raise SolverError("the answer is for other challenges")
    return results


def _heap(megabytes: int) -> str:
    return f"--v8-flags=--max-old-space-size={megabytes}"


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no error text"])[0][:200]


async def _write_all(descriptor: int, content: bytes) -> None:
    """Write to a non-blocking pipe. Raises OSError if its reader is gone."""
    left = memoryview(content)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            await _writable(descriptor)


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    writable: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, resolve, writable, None)
    try:
        await writable
    finally:
        loop.remove_writer(descriptor)
