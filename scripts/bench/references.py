"""The references for comparison: ffmpeg alone, the yt-dlp command, and a bare aiohttp handler."""

import asyncio
import os
import shlex
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import imageio_ffmpeg

from scripts.bench.measure import Cost, children_cpu_seconds, peak_pss_during
from tests.fake_youtube import Spawned
from tests.fake_youtube.evidence import bundle

YTDLP_AT_ONCE = 20

BARE = """
import asyncio, sys
from aiohttp import web
BODY = b'{"job_id": "' + b"x" * 780 + b'"}'
async def handle(request):
    return web.Response(body=BODY, content_type="application/json")
async def main():
    app = web.Application()
    app.router.add_get("/status/{job_id}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("http://%s:%d" % runner.addresses[0][:2], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


TO_MP3 = ("-c:a", "libmp3lame", "-b:a", "192k")
"""ffmpeg's options for the MP3 that the service makes by default."""
COPIED = ("-c:a", "copy")
"""ffmpeg's options that keep the sound as it is."""


def _command(source: Path, target: Path, options: Sequence[str]) -> list[str]:
    ffmpeg = str(imageio_ffmpeg.get_ffmpeg_exe())
    quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
    return [ffmpeg, *quiet, "-i", str(source), "-vn", *options, str(target)]


async def ffmpeg_alone(
    source: Path, folder: Path, *, times: int, at_once: int, extension: str = "mp3", options: Sequence[str] = TO_MP3
) -> Cost:
    """Convert a file several times, by default with the settings of ours for an MP3."""
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with gate:
            target = folder / f"reference-{number}.{extension}"
            process = await asyncio.create_subprocess_exec(*_command(source, target, options))
            if await process.wait() != 0:
                raise RuntimeError("ffmpeg failed")

    before, started_at = children_cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(times)))
    return Cost(cpu_seconds=children_cpu_seconds() - before, wall_seconds=time.perf_counter() - started_at)


async def ytdlp_command(youtube: Spawned, links: Sequence[str], folder: Path) -> Cost:
    """Convert with a command that users type, `xargs -P20 yt-dlp -x --audio-format mp3`, with our quality and proxy."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    authorities = bundle(youtube.ca_file, folder.parent)
    options = [
        *("--ignore-config", "-q", "--no-warnings", "-x", "--audio-format", "mp3", "--audio-quality", "192K"),
        *("--ffmpeg-location", str(imageio_ffmpeg.get_ffmpeg_exe()), "--proxy", youtube.proxy_url),
        # yt-dlp checks certificates, as for a user: against the system's authorities and that of the fake YouTube.
        *("--compat-options", "no-certifi,prefer-legacy-http-handler", "-o", str(folder / "%(id)s.%(ext)s")),
    ]
    command = f"xargs -P{YTDLP_AT_ONCE} -n1 {shlex.join([sys.executable, '-m', 'yt_dlp', *options])}"
    before, started_at = children_cpu_seconds(), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, stdin=asyncio.subprocess.PIPE, env=os.environ | {"SSL_CERT_FILE": str(authorities)}
    )

    async def run() -> float:
        await process.communicate("\n".join(links).encode())
        return float(process.returncode or 0)

    code, peak = await peak_pss_during(process.pid, run())
    if code or len(list(folder.glob("*.mp3"))) != len(links):
        raise RuntimeError("yt-dlp failed")
    return Cost(
        cpu_seconds=children_cpu_seconds() - before, wall_seconds=time.perf_counter() - started_at, peak_pss_mb=peak
    )


@asynccontextmanager
async def bare_handler() -> AsyncIterator[str]:
    """Serve a response of the size of a job from aiohttp alone, in a process of its own; yields its address."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", BARE, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()
