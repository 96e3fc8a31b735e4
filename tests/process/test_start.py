"""The start of `ytmp3 serve`, its errors, and the other commands of `ytmp3`."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.logs import showing_logs
from tests.stand.service_process import ROOT, ServiceProcess, egress, service_process
from tests.stand.waiting import until
from ytmp3.http.keys import find_key, parse_keys
from ytmp3.jobstore.sqlite.file import lock
from ytmp3.variables import VARIABLES


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `ytmp3` with these arguments and settings, and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", "ytmp3", *arguments],
        # The default of DATA_DIR is below HOME, and not every user has an entry in /etc/passwd.
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"} | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_bad_variable_is_named_at_once_and_no_value_is_shown(tmp_path: Path) -> None:
    bad = {"PORT": "secret1", "WORKER_POOL_SIZE": "0", "TRUSTED_PROXIES": "secret2", "COOKIES_FILE": "/secret3"}
    ended = run("serve", DATA_DIR=str(tmp_path), **bad)
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    assert len(lines) == len(bad)
    for name, line in zip(sorted(bad), sorted(lines), strict=True):
        assert re.fullmatch(f"ytmp3: {name}: expected .+", line)
    assert "secret" not in ended.stderr


def test_a_file_that_is_no_job_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "ytmp3.sqlite3"
    file.write_bytes(b"this is no database" * 100)
    ended = run("serve", DATA_DIR=str(tmp_path), PORT="0")
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("ytmp3: ")]
    assert str(file) in line
    assert file.read_bytes() == b"this is no database" * 100


async def test_a_second_instance_on_one_folder_is_refused(youtube: Spawned, tmp_path: Path) -> None:
    async with service_process(tmp_path, **egress(youtube)) as service:
        settings = dict(service.settings) | {"PORT": "0"}
        ended = await asyncio.to_thread(run, "serve", **settings)
        assert ended.returncode == 1
        assert f"ytmp3.sqlite3: ytmp3 runs already (pid {service.pid}, {service.url})\n" in ended.stderr
        assert (await service.get("/health"))[0] == 200


async def starts_despite_sighup(service: ServiceProcess) -> bool:
    """Send SIGHUP to a service that waits for the job store of another process; return whether it starts after that.

    It does not on a machine so busy that it gives up, after 5 s, before this process lets go of the job store.
    """
    waiting = "waiting for the process that uses the job store"
    before = len(service.events(waiting))
    held = lock(Path(service.settings["DATA_DIR"], "ytmp3.sqlite3"), wait_seconds=0.0)
    starting = asyncio.create_task(service.start_listening())
    try:
        await until(lambda: starting.done() or len(service.events(waiting)) > before, waiting, poll_seconds=0.02)
        with contextlib.suppress(ProcessLookupError):
            service.send_signal(signal.SIGHUP)
    finally:
        os.close(held)
    await asyncio.wait([starting])
    if starting.exception() is None:
        return True
    assert await service.wait() == 1, "it has given up, and was not ended by the signal"
    return False


async def test_a_sighup_before_the_service_has_started_does_not_end_it(youtube: Spawned, tmp_path: Path) -> None:
    settings = {"DATA_DIR": str(tmp_path), "LOG_FORMAT": "json"} | egress(youtube)
    service = ServiceProcess(settings, tmp_path / "log")
    service.log_path.touch()
    try:
        await until(lambda: starts_despite_sighup(service), "the service starts")
        assert (await service.get("/health/live"))[0] == 200
    finally:
        await service.client.close()
        assert await service.stop() == 0


async def test_stray_signals_and_closed_standard_streams_change_nothing(youtube: Spawned, tmp_path: Path) -> None:
    settings = {"DATA_DIR": str(tmp_path)} | egress(youtube)
    closing = ("/bin/sh", "-c", 'exec "$@" <&- 2>&-', "sh")
    service = ServiceProcess(settings, tmp_path / "log", prefix=closing)
    try:
        await service.start()
        for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGXCPU", "SIGQUIT"):
            service.send_signal(signal.Signals[name])
        job = await service.submit(watch_url(video_id(Kind.SHORT, 1)))
        await service.until(job["job_id"], "completed")
    finally:
        await service.client.close()
        assert await service.stop() == 0


async def test_a_log_in_json_is_json_all_through(youtube: Spawned, tmp_path: Path) -> None:
    async with service_process(tmp_path, **egress(youtube)) as service:
        await service.stop()
        assert service.process is not None
        assert service.process.stdout is not None
        for line in (await service.process.stdout.read()).decode().splitlines() + service.log().splitlines():
            json.loads(line)


async def test_a_misspelt_setting_is_named_at_the_start(youtube: Spawned, tmp_path: Path) -> None:
    async with service_process(tmp_path, **egress(youtube), WORKER_POOL="5") as service:
        await service.until_event("unknown setting ignored")
        (warning,) = service.events("unknown setting ignored")
        assert (warning["variable"], warning["did_you_mean"]) == ("WORKER_POOL", "WORKER_POOL_SIZE")


async def test_a_backup_of_a_running_service_is_restored_when_it_has_stopped(youtube: Spawned, tmp_path: Path) -> None:
    copy = str(tmp_path / "backup.sqlite3")
    async with service_process(tmp_path, **egress(youtube)) as service:
        status, job = await service.post(watch_url(video_id(Kind.SHORT, 4000)))
        assert status == 202
        made = await asyncio.to_thread(run, "backup", copy, **service.settings)
        assert (made.returncode, made.stderr) == (0, "")
        refused = await asyncio.to_thread(run, "restore", copy, **service.settings)
        assert refused.returncode == 1
        assert "Stop the service before you restore" in refused.stderr
        await service.stop()
        Path(service.settings["DATA_DIR"], "ytmp3.sqlite3").unlink()
        restored = await asyncio.to_thread(run, "restore", copy, **service.settings)
        assert (restored.returncode, restored.stderr) == (0, "")
        await service.start()
        await service.job(job["job_id"])


def test_a_backup_is_made_of_the_embedded_store_only(tmp_path: Path) -> None:
    for command in ("backup", "restore"):
        ended = run(command, str(tmp_path / "copy"), REDIS_ADDR="127.0.0.1:6379")
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert ended.stderr.startswith("ytmp3: REDIS_ADDR: ")


def test_a_taken_port_is_named_with_its_settings(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("serve", DATA_DIR=str(tmp_path), PORT=str(port))
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert f"ytmp3: HOST, PORT: cannot listen on 127.0.0.1:{port}: Address already in use\n" in ended.stderr


def test_a_data_folder_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("serve", DATA_DIR=str(tmp_path / "file/data"), PORT="0")
    assert (ended.returncode, ended.stderr) == (2, f"ytmp3: DATA_DIR: {tmp_path}/file/data: Not a directory\n")


def test_a_broken_keys_file_is_named_with_its_setting(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice\n")
    ended = run("serve", DATA_DIR=str(tmp_path / "data"), PORT="0", API_KEYS_FILE=str(keys))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"ytmp3: API_KEYS_FILE: {keys}: line 1: expected NAME SHA256-HEX")


def test_the_help_of_serve_lists_every_setting() -> None:
    ended = run("serve", "--help")
    assert ended.returncode == 0
    for variable in VARIABLES:
        assert f"\n  {variable.name}" in ended.stdout


async def test_the_health_command_tells_a_ready_service_from_none(youtube: Spawned, tmp_path: Path) -> None:
    async with service_process(tmp_path, **egress(youtube)) as service:
        port = service.url.rpartition(":")[2]
        assert (await asyncio.to_thread(run, "health", PORT=port)).returncode == 0
        assert (await asyncio.to_thread(run, "health", "--live", PORT=port)).returncode == 0
    assert run("health", PORT=port).returncode == 1


def test_the_key_command_prints_a_line_for_the_keys_file(tmp_path: Path) -> None:
    made = run("key", "mobile-app")
    assert made.returncode == 0
    keys = parse_keys(made.stdout)
    secret = made.stderr.split()[-1]
    found = find_key(keys, secret)
    assert found is not None
    assert found.name == "mobile-app"
    assert run("key", "no spaces please").returncode == 2


async def test_a_broken_ffmpeg_makes_the_service_unready_and_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    service = ServiceProcess({"DATA_DIR": str(tmp_path / "data"), "FFMPEG_PATH": str(broken)}, tmp_path / "log")
    with showing_logs(service.log_path):
        try:
            await service.start_listening()

            async def is_checked() -> bool:
                return "ffmpeg" in (await service.get("/health"))[1]["checks"]

            await until(is_checked, "ffmpeg is checked")
            status, health = await service.get("/health")
            assert (status, health["status"]) == (503, "unready")
            assert health["checks"]["ffmpeg"]["ok"] is False
            assert (await service.get("/health/live"))[0] == 200
        finally:
            await service.client.close()
            await service.stop()
