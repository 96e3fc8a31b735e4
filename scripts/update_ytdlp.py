"""`make update-ytdlp`: installs the newest yt-dlp together with the challenge solver that it names.

yt-dlp names the solver's version in its own metadata (`yt-dlp-ejs==0.8.0; extra == "default"`) and refuses another
minor version. So pip is first asked which yt-dlp it would install, without installing anything. Then it installs both
in one step: it downloads both before it changes either, so a broken connection leaves the pair as it was.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Final

PIP: Final = (sys.executable, "-m", "pip")
NEWEST: Final = ("--disable-pip-version-check", "--upgrade", "--pre")
_SOLVER: Final = re.compile(r"(yt-dlp-ejs\s*[=~<>!][^;]*)", re.ASCII)


def wanted_solver(requirements: Iterable[str]) -> str:
    """Return the requirement for the solver among those of yt-dlp.

    Raises:
        LookupError: there is none.
    """
    for requirement in requirements:
        if found := _SOLVER.match(requirement):
            return found[1].strip()
    raise LookupError("this yt-dlp does not say which yt-dlp-ejs it wants")


def update(pip: Sequence[str]) -> str:
    """Install both with this command for pip, and return what was installed.

    Raises:
        subprocess.CalledProcessError: pip has failed, and said why.
        LookupError: the new yt-dlp names no solver. Nothing was installed.
    """
    dry_run = ("--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-")
    answer = subprocess.run([*pip, "install", *NEWEST, *dry_run, "yt-dlp"], check=True, stdout=subprocess.PIPE).stdout
    (found,) = json.loads(answer)["install"]
    pair = (f"yt-dlp=={found['metadata']['version']}", wanted_solver(found["metadata"].get("requires_dist", ())))
    subprocess.run([*pip, "install", *NEWEST, "--quiet", *pair], check=True)
    return " and ".join(pair)


def main() -> None:
    """Update the environment of this interpreter."""
    try:
        print(f"{update(PIP)}: installed. Restart the service.")
    except (subprocess.CalledProcessError, LookupError, ValueError) as error:
        sys.exit(f"yt-dlp was not updated: {error}")


if __name__ == "__main__":
    main()
