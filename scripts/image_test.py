"""`make image-test`: build the Dockerfile without a Docker engine, run the image as restricted as can be, convert.

The official base image may be unreachable, so a substitute with its name is made: Debian's own Python from debootstrap,
with `python3` at the official image's path. buildah builds on it. podman and runc run the result as Compose and
Kubernetes would: read-only root, uid 10001, no capability, no new privileges, limited processes and memory. YouTube is
the fake one.

Needs root, Linux and apt (it installs buildah, podman, runc and debootstrap where they are missing). Not part of
`make test`: it takes minutes, and installs packages. The first failed check ends it with exit code 1.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.image_build import IMAGE, CheckFailed, ImageStorage, build, install, make_base, say
from tests.fake_youtube import Kind, Spawned, spawn, video_id, watch_url
from tests.stand.ports import free_port
from tests.stand.processes import descendants

USER: Final = 10001
KINDS: Final = [Kind.CLIP] * 16 + [Kind.CHALLENGE] * 4
"""As many jobs as there are workers; some need the JavaScript runtime."""
PIDS_LIMIT: Final = 256
"""As in docker-compose.yml."""
MEMORY_BYTES: Final = 2 * 2**30
END_SECONDS: Final = 180.0
STOP_SECONDS: Final = 40


def check(*, claim: str, holds: bool, found: object = "") -> None:
    """Report a claim; raise CheckFailed if it does not hold."""
    say(f"  {'ok  ' if holds else 'FAIL'} {claim}{f' ({found})' if found != '' else ''}")
    if not holds:
        raise CheckFailed(claim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The running container. It shares the machine's network, because the fake YouTube listens on loopback."""

    storage: ImageStorage
    name: str
    url: str

    def execute(self, *command: str) -> tuple[int, str]:
        """Run a command in the container; return its exit code and its output."""
        done = subprocess.run(
            [*self.storage.engine, "exec", self.name, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.strip()

    @property
    def pid(self) -> int:
        """The id of the container's first process, outside the container."""
        return int(self.storage.podman("inspect", "--format", "{{.State.Pid}}", self.name))

    def ask(self, path: str, body: Mapping[str, str] | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, data=None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@contextmanager
def started(storage: ImageStorage, youtube: Spawned) -> Iterator[Instance]:
    """Run the image with all restrictions; remove the container at the end."""
    port = free_port()
    data, files = storage.folder / "data", storage.folder / "files"
    for folder in (data, files):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    os.chown(data, USER, USER)
    shutil.copy(youtube.ca_file, files / "ca.pem")
    (files / "ca.pem").chmod(0o644)
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "ENCODE_CONCURRENCY": "2",
        "EGRESS_PROXY": youtube.proxy_url,
        "EGRESS_CA_FILE": "/files/ca.pem",
    }
    restrictions = [
        "--read-only",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--read-only-tmpfs=false",
    ]
    restrictions += [
        "--tmpfs",
        "/tmp:size=64m,mode=1777",
        "--pids-limit",
        str(PIDS_LIMIT),
        "--memory",
        str(MEMORY_BYTES),
    ]
    restrictions += [
        "--ulimit",
        "nofile=4096:4096",
        "--ulimit",
        "nproc=4096:4096",
        "--network",
        "host",
        "--no-healthcheck",
    ]
    volumes = ["--volume", f"{data}:/data", "--volume", f"{files}:/files:ro"]
    environment = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
    name = f"ytmp3-image-test-{os.getpid()}"
    storage.podman("run", "--detach", "--name", name, *restrictions, *volumes, *environment, IMAGE)
    try:
        yield Instance(storage=storage, name=name, url=f"http://127.0.0.1:{port}")
    except CheckFailed:
        say(storage.podman("logs", "--tail", "30", name))
        raise
    finally:
        storage.podman("rm", "--force", "--time", "5", name)


def until(happens: Callable[[], bool], *, seconds: float, claim: str) -> float:
    """Wait until something happens; return how long it took. Raises CheckFailed after `seconds`."""
    started_at = time.monotonic()
    while time.monotonic() - started_at < seconds:
        try:
            if happens():
                return time.monotonic() - started_at
        except OSError:
            pass
        time.sleep(0.05)
    raise CheckFailed(f"{claim}: not within {seconds:g} s")


def facts_of(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status."""
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def check_restrictions(instance: Instance) -> None:
    """Check the restrictions with the kernel, not with the container engine."""
    pid = instance.pid
    family = {pid, *descendants(pid)}
    command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    check(claim="PID 1 is tini", holds=command[0].endswith("tini"), found=command[0])
    for name, wanted in (("NoNewPrivs", "1"), ("CapEff", f"{0:016x}"), ("CapBnd", f"{0:016x}")):
        found = {facts_of(member)[name] for member in family}
        check(claim=f"{name} of all processes is {wanted}", holds=found == {wanted})
    users = {facts_of(member)["Uid"].split()[0] for member in family}
    check(claim=f"all processes run as {USER}", holds=users == {str(USER)}, found=f"{len(family)} processes")
    mode = facts_of(pid).get("Seccomp", "")
    check(claim="a seccomp filter is in force", holds=mode == "2", found=f"mode {mode}")
    for place in ("/x", "/app/x", "/opt/ytmp3/x", "/usr/x"):
        code, answer = instance.execute("touch", place)
        check(claim=f"{place} cannot be written", holds=code != 0 and "Read-only" in answer)
    code, answer = instance.execute("python", "-m", "ytmp3", "health")
    check(claim="`python -m ytmp3 health` finds the service ready", holds=code == 0, found=answer[:60])
    for program in ("gcc", "cc", "make"):
        code, _ = instance.execute(program, "--version")
        check(claim=f"there is no {program}", holds=code != 0)


def threads(pid: int) -> int:
    """Count the threads of `pid` and of all processes below it: that is what a limit of processes counts."""
    total = 0
    for member in {pid, *descendants(pid)}:
        try:
            total += int(facts_of(member)["Threads"])
        except (OSError, KeyError):
            continue
    return total


def memory_bytes(pid: int) -> int:
    """Return the memory of a process and all below it; a shared page is counted once (PSS)."""
    total = 0
    for member in {pid, *descendants(pid)}:
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def check_conversions(instance: Instance, youtube: Spawned) -> None:
    """Convert many links at once; check one track, and the processes and memory that were used."""
    pid = instance.pid
    waiting = []
    for number, kind in enumerate(KINDS):
        link = watch_url(video_id(kind, number))
        status, job = instance.ask("/extract", {"url": link})
        if status != 202:
            raise CheckFailed(f"POST /extract: {status} {job}")
        waiting.append(job["job_id"])
    most_threads = most_memory = 0
    jobs: list[dict[str, Any]] = []
    started_at = time.monotonic()
    while waiting and time.monotonic() - started_at < END_SECONDS:
        most_threads = max(most_threads, threads(pid))
        most_memory = max(most_memory, memory_bytes(pid))
        for job_id in list(waiting):
            _, job = instance.ask(f"/status/{job_id}")
            if job["status"] in {"completed", "failed", "cancelled"}:
                waiting.remove(job_id)
                jobs.append(job)
        time.sleep(0.05)
    states = [job["status"] if job["error"] is None else job["error"]["code"] for job in jobs]
    seconds = time.monotonic() - started_at
    check(
        claim=f"{len(KINDS)} links are converted", holds=states == ["completed"] * len(KINDS), found=f"{seconds:.1f} s"
    )
    check(claim="the fake YouTube refused nothing", holds=not youtube.refused)
    with urllib.request.urlopen(instance.url + jobs[0]["download_url"], timeout=10) as response:
        track = response.read()
    size_bytes = jobs[0]["file"]["size_bytes"]
    check(
        claim="the track is whole",
        holds=len(track) == size_bytes and track.startswith(b"ID3"),
        found=f"{size_bytes} bytes",
    )
    check(
        claim=f"at most {PIDS_LIMIT} processes and threads at once", holds=most_threads < PIDS_LIMIT, found=most_threads
    )
    check(
        claim="memory within the limit",
        holds=most_memory < MEMORY_BYTES,
        found=f"{most_memory / 1e6:.0f} MB at most",
    )
    until(lambda: not zombies(pid), seconds=10, claim="no zombie is left")
    check(claim="no zombie is left", holds=True)


def zombies(pid: int) -> list[int]:
    """Return the children of the container's first process that have ended and were not reaped."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] == "Z" and int(fields[1]) == pid:
                found.append(int(folder.name))
    return found


def check_orphan(instance: Instance) -> None:
    """Check that PID 1 reaps processes whose parents have ended."""
    code, _ = instance.execute("sh", "-c", "(sleep 0.2 &) ; exit 0")
    check(claim="a process without a parent can be made", holds=code == 0)
    pid = instance.pid
    time.sleep(0.5)  # it ends after 0.2 s
    until(lambda: not zombies(pid), seconds=10, claim="PID 1 reaps it")
    check(claim="PID 1 reaps it", holds=True)


def check_stop(instance: Instance) -> None:
    """SIGTERM to PID 1 reaches the service, which drains and exits with 0."""
    started_at = time.monotonic()
    instance.storage.podman("stop", "--time", str(STOP_SECONDS), instance.name)
    seconds = time.monotonic() - started_at
    code = instance.storage.podman("inspect", "--format", "{{.State.ExitCode}}", instance.name)
    check(claim="SIGTERM ends the container with exit code 0", holds=code == "0", found=f"code {code}, {seconds:.1f} s")
    log = instance.storage.podman("logs", instance.name)
    check(claim="it drained first", holds='"event":"draining"' in log)


def main() -> int:
    """Build, run, check; return an exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.image_test", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, help="keep images here, which makes the next run quicker; default: a temporary folder"
    )
    given = parser.parse_args().folder
    folder = given or Path(tempfile.mkdtemp(prefix="ytmp3-image-test-", dir="/var/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    storage = ImageStorage(folder=folder)
    try:
        install()
        make_base(storage)
        build(storage)
        with spawn(folder / "youtube", prepare=[Kind.CLIP]) as youtube, started(storage, youtube) as instance:
            seconds = until(lambda: instance.ask("/health")[0] == 200, seconds=60, claim="the service is ready")
            say(f"running the image: ready after {seconds:.1f} s")
            check_restrictions(instance)
            check_conversions(instance, youtube)
            check_orphan(instance)
            check_stop(instance)
    except CheckFailed as error:
        say(f"image test FAILED: {error}")
        return 1
    finally:
        if given is None:
            shutil.rmtree(folder, ignore_errors=True)
    say("image test passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
