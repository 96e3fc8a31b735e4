"""Writes the two lock files from pyproject.toml: every package with its version and the hashes of its files.

`requirements/runtime.txt` is what serving needs. `requirements/dev.txt` is what the checks need in addition: it is
resolved under the versions of the first, and repeats none of its packages, so both files are installed together.

Versions that the files hold already are kept; `--upgrade` takes the newest. Needs uv (https://docs.astral.sh/uv/).
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
RUNTIME: Final = "requirements/runtime.txt"
DEV: Final = "requirements/dev.txt"


def packages(text: str) -> list[str]:
    """Return the names of the packages that a lock file pins."""
    return re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==", text, re.MULTILINE)


def compile_lock(output: str, *options: str) -> None:
    """Resolve for every supported Python and platform at once; the file names no package index."""
    subprocess.run(
        ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes",
         "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make lock",
         *options, "pyproject.toml", "--output-file", output],
        cwd=ROOT, check=True,
    )  # fmt: skip


def main() -> None:
    """Write both files."""
    options = sys.argv[1:]
    compile_lock(RUNTIME, *options)
    pinned = packages((ROOT / RUNTIME).read_text())
    known = [option for name in pinned for option in ("--no-emit-package", name)]
    compile_lock(DEV, "--group", "dev", "--constraints", RUNTIME, *known, *options)


if __name__ == "__main__":
    main()
