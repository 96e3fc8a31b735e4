"""`make demo`: convert one link offline, against the fake YouTube, and show every step a client would see."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path

from tests.fake_youtube import Kind, spawn, video_id, watch_url

DEADLINE_SECONDS = 60.0


def call(url: str, body: dict[str, str] | None = None) -> dict[str, object]:
    """One request, as curl would make it."""
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, object] = json.load(response)
        return answer


async def start(folder: Path, environment: dict[str, str]) -> tuple[asyncio.subprocess.Process, str]:
    """Start the service on a free port; return it and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ytmp3",
        "serve",
        env=os.environ | environment | {"PORT": "0", "DATA_DIR": str(folder / "data"), "LOG_LEVEL": "warning"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), DEADLINE_SECONDS)).decode()
    print(line, end="")
    return process, line.split()[-1]


async def convert(base: str) -> dict[str, object]:
    """Submit a link and follow it to its end."""
    link = watch_url(video_id(Kind.SONG))
    print(f'$ curl -X POST {base}/extract -H "Content-Type: application/json" -d \'{{"url": "{link}"}}\'')
    job = await asyncio.to_thread(call, f"{base}/extract", {"url": link})
    shown = None
    while job["status"] in {"pending", "processing"}:
        now = (job["stage"], round(float(str(job["progress"])), 1))
        if now != shown:
            print(f"  {job['status']:<10} {job['stage']:<11} {float(str(job['progress'])):4.0%}")
            shown = now
        await asyncio.sleep(0.1)
        job = await asyncio.to_thread(call, f"{base}/status/{job['job_id']}")
    return job


async def main() -> int:
    """Run the demo; return an exit code."""
    folder = Path(tempfile.mkdtemp(prefix="ytmp3-demo-"))
    with spawn(folder / "youtube") as youtube:
        process, base = await start(folder, {"EGRESS_PROXY": youtube.proxy_url, "EGRESS_CA_FILE": str(youtube.ca_file)})
        try:
            job = await asyncio.wait_for(convert(base), DEADLINE_SECONDS)
            print(json.dumps(job, indent=2))
            if job["status"] != "completed":
                return 1
            target = folder / f"{job['job_id']}.mp3"
            await asyncio.to_thread(urllib.request.urlretrieve, f"{base}{job['download_url']}", target)
            print(f"\nThe MP3 is {target}")
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
