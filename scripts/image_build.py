"""Builds the container image without a Docker engine, for `scripts/image_test.py`.

buildah builds the Dockerfile in a folder of its own. The official base image may be unreachable, so a substitute with
its name is made first: Debian's own Python from debootstrap, with `python3` at the official image's path.
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
BASE: Final = "docker.io/library/python:3.13-slim-trixie"
RELEASE: Final = "trixie"
IMAGE: Final = "localhost/ytmp3:image-test"
PROGRAMS: Final = ("buildah", "podman", "runc", "conmon", "debootstrap")
"""Each is in the Debian package of the same name."""
AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


class CheckFailed(Exception):
    """A check of the image failed."""


def say(text: str) -> None:
    print(text, flush=True)


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
class ImageStorage:
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


def make_base(storage: ImageStorage) -> None:
    """Make the substitute for the official Python image, once for a folder."""
    if BASE in storage.buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        say("the substitute base image exists already")
        return
    say(f"making the substitute base image from Debian {RELEASE}: this takes minutes")
    mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    mirror = next(uri for uri in mirrors if "security" not in uri)
    tree = storage.folder / "base"
    packages = "ca-certificates,python3,python3-venv,python3-pip"
    run("debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, tree, mirror)
    for name in ("python", "python3"):
        (tree / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
    for mark in tree.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    container = storage.buildah("from", "--pull-never", "scratch")
    storage.buildah("add", "-q", container, tree, "/")
    storage.buildah("commit", "-q", "--rm", container, BASE)
    shutil.rmtree(tree)


def build(storage: ImageStorage) -> None:
    """Build the image from the Dockerfile."""
    say("building the Dockerfile")
    started_at = time.monotonic()
    trust = ["-v", f"{AUTHORITIES}:{AUTHORITIES}:ro"] if AUTHORITIES.exists() else []
    options = ["--pull-never", "--format", "docker", "--layers", "--network", "host", *trust]
    storage.buildah("build", *options, "--tag", IMAGE, ROOT)
    sizes = dict(
        line.split(maxsplit=1)
        for line in storage.buildah("images", "--format", "{{.Name}}:{{.Tag}} {{.Size}}").splitlines()
    )
    say(f"  built in {time.monotonic() - started_at:.0f} s: {sizes[IMAGE]}, of which the base image {sizes[BASE]}")
