"""The event loop of a service at work makes no call of the file system, which could hang."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession, web

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.service_process import egress
from tests.stand.waiting import until
from ytmp3.app import running
from ytmp3.config import load
from ytmp3.http.connections import Runner

pytestmark = pytest.mark.attack

WITHOUT_EVENTS: Final = ("stat", "lstat", "statvfs", "access", "fsync", "splice", "pread", "readlink")
"""Functions of `os` that may hang, and that raise no audit event."""


class Recorder:
    """Records the calls of the file system that a thread makes with paths in a folder, or with files in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.fspath(folder)
        self._thread = threading.get_ident()
        self._is_looking = False
        self.is_on = False
        self.calls: list[str] = []

    def on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Record an audit event, unless it only wraps a descriptor. A hook cannot be removed, but switched off."""
        is_wrapped = event == "open" and bool(arguments) and isinstance(arguments[0], int)
        if self.is_on and arguments and not is_wrapped:
            self._record(event, arguments[0])

    def recording(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a record of its calls."""

        def recorded(*arguments: Any, **options: Any) -> Any:
            if self.is_on and arguments:
                self._record(f"os.{name}", arguments[0])
            return function(*arguments, **options)

        return recorded

    def _record(self, call: str, target: object) -> None:
        if threading.get_ident() != self._thread or self._is_looking:
            return
        self._is_looking = True
        try:
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
        except OSError:
            path = ""
        finally:
            self._is_looking = False
        if path.startswith(self._folder):
            self.calls.append(f"{call} {path.removeprefix(self._folder)}")


async def test_a_conversion_and_its_download_make_no_call_on_the_event_loop(
    youtube: Spawned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path)
    sys.addaudithook(recorder.on_event)
    for name in WITHOUT_EVENTS:
        monkeypatch.setattr(os, name, recorder.recording(name, getattr(os, name)))
    async with running(load({"DATA_DIR": str(tmp_path / "data")} | egress(youtube))) as service:
        runner = Runner(service.app, shutdown_seconds=1.0, limit=service.connections)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = "http://{}:{}".format(*runner.addresses[0][:2])
        await until(lambda: service.health.is_ready, "the service is ready")
        recorder.is_on = True
        async with ClientSession(url) as client:

            async def answer(method: str, path: str, **options: Any) -> Any:
                async with client.request(method, path, **options) as response:
                    assert response.status < 400, await response.text()
                    return await response.json()

            for kind in (Kind.CLIP, Kind.M4A):
                job = await answer("POST", "/extract", json={"url": watch_url(video_id(kind, 77))})

                async def is_completed(path: str = job["status_url"]) -> bool:
                    return bool((await answer("GET", path))["status"] == "completed")

                await until(is_completed, "the job is completed", poll_seconds=0.05)
                path = (await answer("GET", job["status_url"]))["download_url"]
                for headers in ({}, {"Range": "bytes=100-5000"}):
                    async with client.get(path, headers=headers) as response:
                        assert response.status < 300
                        assert await response.read()
                await answer("POST", "/extract", json={"url": watch_url(video_id(kind, 77))})
                await answer("DELETE", f"/jobs/{job['job_id']}")
            for path in ("/health", "/stats", "/metrics"):
                async with client.get(path) as response:
                    await response.read()
        recorder.is_on = False
        await runner.cleanup()
    assert recorder.calls == []
    # The recorder does see such calls.
    recorder.is_on = True
    await asyncio.sleep(0)
    (tmp_path / "file").touch()
    (tmp_path / "file").stat()
    recorder.is_on = False
    assert {call.partition(" ")[0] for call in recorder.calls} >= {"open", "os.stat"}
