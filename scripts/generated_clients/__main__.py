"""`make generated-clients`: let two generators make clients from `/openapi.json`, and convert a link with each.

openapi-python-client makes a package for Python, and openapi-typescript the types for a client in TypeScript, which is
compiled strictly and run with Node. Both are installed from the configured package indexes into a temporary folder, so
the environment of the checkout stays as it is. Needs Node and npm. Exits with 1 if a client cannot be made or fails.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from scripts.demo import DemoFailed, service
from scripts.recording import Terminal
from tests.fake_youtube import Kind, spawn, video_id, watch_url

PYTHON_PACKAGES: Final = ("openapi-python-client==0.29.1",)
NODE_PACKAGES: Final = (
    "openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@22.19.1",
)  # fmt: skip
STEP_SECONDS: Final = 600.0
"""Longest time, in seconds, of one command. On an idle machine, the longest takes 20."""
_HERE: Final = Path(__file__).resolve().parent


def main() -> int:
    """Make and run both clients; return the exit status."""
    argparse.ArgumentParser(prog="python -m scripts.generated_clients", description=__doc__).parse_args()
    if shutil.which("npm") is None:
        print("This needs Node with npm, for the client in TypeScript.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="ytmp3-clients-") as folder:
        try:
            asyncio.run(try_both(Path(folder)))
        except (DemoFailed, subprocess.SubprocessError) as error:
            print(f"A generated client failed: {error}", file=sys.stderr)
            return 1
    return 0


async def try_both(folder: Path) -> None:
    """Run both clients against a service with the fake YouTube.

    Raises:
        DemoFailed: the service did not start.
        subprocess.SubprocessError: a generator or a client failed.
    """
    terminal = Terminal(write=lambda line: print(line, flush=True))
    with spawn(folder / "youtube", prepare=[Kind.SHORT], weight="light") as youtube:
        settings = {"EGRESS_PROXY": youtube.proxy_url, "EGRESS_CA_FILE": str(youtube.ca_file)}
        async with service(terminal, folder / "data", settings) as server:
            document = folder / "openapi.json"
            document.write_bytes(await asyncio.to_thread(_read, f"{server}/openapi.json"))
            await asyncio.to_thread(python_client, folder, document, server)
            await asyncio.to_thread(typescript_client, folder, document, server)


def python_client(folder: Path, document: Path, server: str) -> None:
    """Make and run the client in Python."""
    environment = folder / "python"
    _run(sys.executable, "-m", "venv", environment)
    python = environment / "bin/python"
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PYTHON_PACKAGES)
    package = folder / "ytmp3-client"
    generate = ("generate", "--path", document, "--output-path", package, "--config", _HERE / "config.yml")
    # It formats the package with ruff, which is installed with it. A warning says what it had to leave out.
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    _run(environment / "bin/openapi-python-client", *generate, "--fail-on-warning", PATH=path)
    program = _HERE / "python_client.py"
    _run(python, program, server, watch_url(video_id(Kind.SHORT, 1)), PYTHONPATH=str(package), NO_PROXY="*")


def typescript_client(folder: Path, document: Path, server: str) -> None:
    """Make, compile and run the client in TypeScript."""
    project = folder / "typescript"
    project.mkdir()
    (project / "package.json").write_text('{"type": "module", "private": true}')
    _run("npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_PACKAGES, folder=project)
    # Without the option, fields with a default would be required in requests too.
    options = ("--default-non-nullable=false", "-o", "ytmp3.d.ts")
    _run("node_modules/.bin/openapi-typescript", document, *options, folder=project)
    shutil.copy(_HERE / "typescript_client.ts", project)
    strict = ("--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext")
    _run("node_modules/.bin/tsc", *strict, "typescript_client.ts", folder=project)
    _run("node", "typescript_client.js", server, watch_url(video_id(Kind.SHORT, 2)), folder=project)


def _run(*command: str | Path, folder: Path | None = None, **environment: str) -> None:
    """Run a command, and show it with its output.

    Raises:
        subprocess.SubprocessError: it failed, or took too long.
    """
    words = [str(word) for word in command]
    print("$", " ".join([Path(words[0]).name, *words[1:]]), flush=True)
    subprocess.run(words, cwd=folder, env=os.environ | environment, timeout=STEP_SECONDS, check=True)


def _read(address: str) -> bytes:
    with urlopen(address, timeout=STEP_SECONDS) as response:
        return bytes(response.read())


if __name__ == "__main__":
    sys.exit(main())
