"""The settings of the service in .env.example: `make docs` writes them, and a test fails while they are out of date.

Names and meanings come from `ytmp3.variables`, the defaults from docker-compose.yml, which reads the file. What is
outside the two marks is written by hand: the settings of Compose itself, and those to set before going public.
"""

import re
import textwrap
from pathlib import Path
from typing import Final

from ytmp3.variables import VARIABLES

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = ROOT / ".env.example"
_PART: Final = re.compile(r"(# settings: generated\n\n).*?(?=# end\n)", re.DOTALL)
_DEFAULT: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*):-([^}]*)\}")

FIXED: Final = {"HOST": "0.0.0.0", "PORT": "8080", "DATA_DIR": "/data"}
"""What the image decides: Compose passes these values whatever .env says."""
NOTES: Final = {
    "CLIENT_MAX_DOWNLOADS": "Behind nginx it sends hardly any itself (see ACCEL_REDIRECT_PREFIX): there the limit is "
    "that of nginx, 8 for each address."
}


def settings(written_by_hand: str) -> str:
    """Return the commented-out settings, without those that the rest of the file has already."""
    defaults = dict(_DEFAULT.findall((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))) | FIXED
    lines: list[str] = []
    for variable in VARIABLES:
        if f"\n#{variable.name}=" in written_by_hand:
            continue
        note = f"In a container always {FIXED[variable.name]}." if variable.name in FIXED else NOTES.get(variable.name)
        text = variable.meaning if note is None else f"{variable.meaning} {note}"
        lines += textwrap.wrap(text, 118, initial_indent="# ", subsequent_indent="# ")
        lines += [f"#{variable.name}={defaults[variable.name]}", ""]
    return "\n".join(lines) + "\n"


def refreshed(text: str) -> str:
    """Return the file's text with the generated part made anew."""
    written_by_hand = _PART.sub("", text)
    return _PART.sub(lambda match: match[1] + settings(written_by_hand), text)
