"""`make demo`: convert one link offline, against the fake YouTube, and show every step that a client would see.

`make demo RECORD=docs/demo.svg` also draws what it printed: that is the picture in the README.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from scripts.recording import COLUMNS, Terminal, draw
from tests.fake_youtube import Kind, spawn, video_id, watch_url
from tests.fake_youtube.fake import Weight

DEADLINE_SECONDS: Final = 300.0
"""For the start of the service, and for the conversion. Each takes 1 to 5 seconds on an idle machine, and far more on
one that does other work."""
POLL_SECONDS: Final = 0.1
STEP: Final = 0.2
"""Progress is shown when the stage changes, or after another fifth of the work."""


class DemoFailed(Exception):
    """The demonstration did not work; the text says at which step."""


def main() -> int:
    """Run the demonstration; return an exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description=__doc__)
    parser.add_argument("--record", type=Path, metavar="FILE", help="draw the session as an SVG (make: RECORD=FILE)")
    parser.add_argument(
        "--weight", choices=("light", "real"), default="real", help="size of YouTube's answers; light: small ones"
    )
    options = parser.parse_args()
    terminal = Terminal(write=lambda line: print(line, flush=True))
    folder = Path(tempfile.mkdtemp(prefix="ytmp3-demo-"))
    try:
        asyncio.run(show(terminal, folder, options.weight))
    except (DemoFailed, TimeoutError) as error:
        print(f"The demonstration failed: {str(error) or 'it took too long'}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.record is not None:
        description = "make demo: a link is posted with curl, followed to its end, and the MP3 is downloaded."
        options.record.write_text(draw(terminal.lines, title="A conversion with ytmp3", description=description))
    return 0


async def show(terminal: Terminal, folder: Path, weight: Weight) -> None:
    """Convert one song and download it, in `folder`.

    Raises:
        DemoFailed
    """
    terminal.show("$ make demo")
    with spawn(folder / "youtube", prepare=[Kind.SONG], weight=weight) as youtube:
        settings = {"EGRESS_PROXY": youtube.proxy_url, "EGRESS_CA_FILE": str(youtube.ca_file)}
        async with service(terminal, folder / "data", settings) as base:
            job = await convert(terminal, base)
            await download(terminal, base, job, folder)


@asynccontextmanager
async def service(terminal: Terminal, data: Path, settings: Mapping[str, str]) -> AsyncIterator[str]:
    """Run `ytmp3 serve` on a free port of this machine; give its address.

    Raises:
        DemoFailed: it did not start.
    """
    own = {"PORT": "0", "HOST": "127.0.0.1", "DATA_DIR": str(data), "LOG_LEVEL": "warning", "LOG_FORMAT": "text"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ytmp3", "serve"), env=os.environ | settings | own, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), DEADLINE_SECONDS)).decode().strip()
        address = re.search(r"http://\S+", line)
        if address is None:
            raise DemoFailed("the service did not start")
        terminal.show(line)
        yield address[0]
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def convert(terminal: Terminal, base: str) -> dict[str, Any]:
    """Submit a link and follow it to its end; return the completed job.

    Raises:
        DemoFailed: the conversion failed or took too long.
    """
    body = json.dumps({"url": watch_url(video_id(Kind.SONG)), "quality": "192k"})
    job = await curl(terminal, "-X", "POST", f"{base}/extract", "-H", "Content-Type: application/json", "-d", body)
    terminal.show(stage_of(job))
    address = f"{base}{job['status_url']}"
    terminal.show(f"$ curl {address}    # repeated until it ends")
    shown: tuple[str, int] | None = None
    async with asyncio.timeout(DEADLINE_SECONDS):
        while job["status"] in {"pending", "processing"}:
            await asyncio.sleep(POLL_SECONDS)
            job = await curl(None, address)
            now = (job["stage"], int(job["progress"] / STEP))
            if now != shown and job["status"] == "processing":
                terminal.show(stage_of(job))
                shown = now
    if job["status"] != "completed":
        raise DemoFailed(f"the job ended as {job['status']}: {job['error']}")
    terminal.show(pretty(job))
    return job


async def download(terminal: Terminal, base: str, job: Mapping[str, Any], folder: Path) -> None:
    """Fetch the track by the name that the service gives it, and compare it with what the job promised.

    Raises:
        DemoFailed: the file is not the one that was announced.
    """
    target = folder / "downloads"
    target.mkdir()
    await curl(terminal, "-fOJ", f"{base}{job['download_url']}", folder=target)
    (file,) = target.iterdir()
    content = await asyncio.to_thread(file.read_bytes)
    if hashlib.sha256(content).hexdigest() != job["file"]["sha256"]:
        raise DemoFailed(f"{file.name} is not what the job promised")
    terminal.show(f"{file.name}: {len(content):,} bytes, and the SHA-256 that the job promised")


async def curl(terminal: Terminal | None, *arguments: str, folder: Path | None = None) -> dict[str, Any]:
    """Run curl, showing its command on the terminal if there is one; return the JSON that it printed, if any.

    Raises:
        DemoFailed: curl is not installed, or reports an error.
    """
    if terminal is not None:
        terminal.show(command_of(arguments))
    program = shutil.which("curl")
    if program is None:
        raise DemoFailed("it needs the program curl")
    done = await asyncio.to_thread(
        subprocess.run,
        # Never through a proxy of the environment: the service is on this machine.
        [program, "--silent", "--show-error", "--noproxy", "*", *arguments],
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
    if done.returncode:
        raise DemoFailed(done.stderr.decode(errors="replace").strip())
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith(b"{") else {}
    return answer


def command_of(arguments: Sequence[str]) -> str:
    """Return the command as a person would type it: on one line, or with one option on each."""
    parts = ["$ curl"]
    for word in arguments:
        quoted = f"'{word}'" if '"' in word else f'"{word}"' if " " in word else word
        # An option begins a part of its own, and its value, or the address, follows it there.
        if word.startswith("-") and parts != ["$ curl"]:
            parts.append(quoted)
        else:
            parts[-1] += f" {quoted}"
    line = " ".join(parts)
    return line if len(line) <= COLUMNS else " \\\n    ".join(parts)


def stage_of(job: Mapping[str, Any]) -> str:
    """Return where a job stands, on one line."""
    return f"  {job['status']:<11} {job['stage']:<12} {job['progress']:4.0%}"


def pretty(job: Mapping[str, Any]) -> str:
    """Return the job as JSON, with one field on each line; only an object too long for a line has more."""
    fields = []
    for name, value in job.items():
        text = f'  "{name}": {json.dumps(value, ensure_ascii=False)}'
        if len(text) >= COLUMNS:
            text = f'  "{name}": ' + json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n  ")
        fields.append(text)
    return "{\n" + ",\n".join(fields) + "\n}"


if __name__ == "__main__":
    sys.exit(main())
