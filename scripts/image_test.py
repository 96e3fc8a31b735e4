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

from tests.fake_youtube import Kind, Spawned, spawn, video_id, watch_url
from tests.stand.ports import free_port
from tests.stand.processes import descendants

ROOT: Final = Path(__file__).resolve().parents[1]
BASE: Final = "docker.io/library/python:3.13-slim-trixie"
RELEASE: Final = "trixie"
IMAGE: Final = "localhost/ytmp3:image-test"
PROGRAMS: Final = ("buildah", "podman", "runc", "conmon", "debootstrap")
"""Each is in the Debian package of the same name."""
AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
USER: Final = 10001
KINDS: Final = [Kind.CLIP] * 16 + [Kind.CHALLENGE] * 4
"""As many jobs as there are workers; some need the JavaScript runtime."""
PIDS_LIMIT: Final = 256
"""As in docker-compose.yml."""
MEMORY_BYTES: Final = 2 * 2**30
END_SECONDS: Final = 180.0
STOP_SECONDS: Final = 40


class CheckFailed(Exception):
    """A check of the image failed."""


def say(text: str) -> None:
    print(text, flush=True)


def check(*, claim: str, holds: bool, found: object = "") -> None:
    """Report a claim; raise CheckFailed if it does not hold."""
    say(f"  {'ok  ' if holds else 'FAIL'} {claim}{f' ({found})' if found != '' else ''}")
    if not holds:
        raise CheckFailed(claim)


def run(*command: str | Path, quiet: bool = True, **environment: str) -> str:
    """Run a program to its end; return its output. Raises CheckFailed with the end of the output if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CheckFailed(f"{command[0]}: exit code {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where images are built and run: a storage of its own, apart from the machine's images."""

    folder: Path

    @property
    def places(self) -> tuple[str, ...]:
        return ("--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run", "--storage-driver", "overlay")

    def buildah(self, *arguments: str | Path) -> str:
        return run("buildah", *self.places, *arguments, BUILDAH_ISOLATION="chroot").strip()

    @property
    def engine(self) -> tuple[str, ...]:
        return ("podman", *self.places, "--cgroup-manager", "cgroupfs", "--runtime", "runc")

    def podman(self, *arguments: str | Path) -> str:
        return run(*self.engine, *arguments).strip()


def install() -> None:
    """Install the programs that are missing. Raises CheckFailed if that is not possible."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise CheckFailed(f"needs root and apt, or these programs: {', '.join(missing)}")
    say(f"installing {', '.join(missing)}")
    run("apt-get", "update")
    run("apt-get", "install", "--yes", "--no-install-recommends", *missing, DEBIAN_FRONTEND="noninteractive")


def make_base(shop: Workshop) -> None:
    """Make the substitute for the official Python image, once for a folder."""
    if BASE in shop.buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        say("the substitute base image exists already")
        return
    say(f"making the substitute base image from Debian {RELEASE}: this takes minutes")
    mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    mirror = next(uri for uri in mirrors if "security" not in uri)
    tree = shop.folder / "base"
    packages = "ca-certificates,python3,python3-venv,python3-pip"
    run("debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, tree, mirror)
    for name in ("python", "python3"):
        (tree / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
    for mark in tree.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    container = shop.buildah("from", "--pull-never", "scratch")
    shop.buildah("add", "-q", container, tree, "/")
    shop.buildah("commit", "-q", "--rm", container, BASE)
    shutil.rmtree(tree)


def build(shop: Workshop) -> None:
    """Build the image from the Dockerfile."""
    say("building the Dockerfile")
    started_at = time.monotonic()
    trust = ["-v", f"{AUTHORITIES}:{AUTHORITIES}:ro"] if AUTHORITIES.exists() else []
    options = ["--pull-never", "--format", "docker", "--layers", "--network", "host", *trust]
    shop.buildah("build", *options, "--tag", IMAGE, ROOT)
    sizes = dict(
        line.split(maxsplit=1)
        for line in shop.buildah("images", "--format", "{{.Name}}:{{.Tag}} {{.Size}}").splitlines()
    )
    say(f"  built in {time.monotonic() - started_at:.0f} s: {sizes[IMAGE]}, of which the base image {sizes[BASE]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The running container. It shares the machine's network, because the fake YouTube listens on loopback."""

    shop: Workshop
    name: str
    url: str

    def execute(self, *command: str) -> tuple[int, str]:
        """Run a command in the container; return its exit code and its output."""
        done = subprocess.run(
            [*self.shop.engine, "exec", self.name, *command],
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
        return int(self.shop.podman("inspect", "--format", "{{.State.Pid}}", self.name))

    def ask(self, path: str, body: Mapping[str, str] | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, data=None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@contextmanager
def started(shop: Workshop, youtube: Spawned) -> Iterator[Instance]:
    """Run the image with all restrictions; remove the container at the end."""
    port = free_port()
    data, files = shop.folder / "data", shop.folder / "files"
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
    shop.podman("run", "--detach", "--name", name, *restrictions, *volumes, *environment, IMAGE)
    try:
        yield Instance(shop=shop, name=name, url=f"http://127.0.0.1:{port}")
    except CheckFailed:
        say(shop.podman("logs", "--tail", "30", name))
        raise
    finally:
        shop.podman("rm", "--force", "--time", "5", name)


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
    instance.shop.podman("stop", "--time", str(STOP_SECONDS), instance.name)
    seconds = time.monotonic() - started_at
    code = instance.shop.podman("inspect", "--format", "{{.State.ExitCode}}", instance.name)
    check(claim="SIGTERM ends the container with exit code 0", holds=code == "0", found=f"code {code}, {seconds:.1f} s")
    log = instance.shop.podman("logs", instance.name)
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
    shop = Workshop(folder=folder)
    try:
        install()
        make_base(shop)
        build(shop)
        with spawn(folder / "youtube", prepare=[Kind.CLIP]) as youtube, started(shop, youtube) as instance:
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
