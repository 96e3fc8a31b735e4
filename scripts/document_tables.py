"""The parts of the documents that are made from the code: settings, states, error codes, routes, measured figures.

`make docs` rewrites, in README.md and docs/, everything between a line `<!-- NAME: generated -->` and the next
`<!-- end -->`, the settings in .env.example, and the API reference of the web page. A test fails while a file is out of
date.
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

from scripts import env_example, reference_page
from ytmp3.core.description import ProbeFailed, ProbeRefused
from ytmp3.core.errors import FAILURES, PlaylistRefused, RequestError
from ytmp3.core.job import State
from ytmp3.core.states import TRANSITIONS
from ytmp3.http import errors as http_errors
from ytmp3.http.routes import ROUTES
from ytmp3.variables import VARIABLES

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "scripts/bench/RESULTS.md"
_PART: Final = re.compile(r"(<!-- (?P<name>[a-z]+): generated -->\n).*?(?=<!-- end -->)", re.DOTALL)


def files() -> Iterator[tuple[Path, Callable[[str], str]]]:
    """Yield every file with generated parts, and the function that makes them anew."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        yield path, lambda text: refreshed(text, PARTS)
    yield env_example.FILE, env_example.refreshed
    yield reference_page.FILE, lambda _: reference_page.page()


def refreshed(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return `text` with every part of a known name made anew; others are left as they are."""

    def part(match: re.Match[str]) -> str:
        make = parts.get(match["name"])
        return match[0] if make is None else match[1] + make() + "\n"

    return _PART.sub(part, text)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def states() -> str:
    """The states of a conversion, as a diagram that GitHub and others draw."""
    events: defaultdict[tuple[State, State], list[str]] = defaultdict(list)
    for (before, event), after in TRANSITIONS.items():
        events[before, after].append(event.value)
    moves = [f"    {before} --> {after}: {', '.join(names)}" for (before, after), names in events.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {State.QUEUED}", *moves, "```"])


def settings() -> str:
    """The environment variables."""
    rows = (
        (
            f"`{variable.name}`",
            # The default is the number of cores of the machine that makes this table.
            "cores" if variable.name == "ENCODE_CONCURRENCY" else f"`{variable.default}`" if variable.default else "",
            variable.form,
            variable.meaning,
        )
        for variable in VARIABLES
    )
    return table(("variable", "default", "expects", "meaning"), rows)


def failures() -> str:
    """The error codes of failed jobs."""
    rows = ((f"`{code}`", "yes" if failure.retryable else "no", failure.message) for code, failure in FAILURES.items())
    return table(("`error.code`", "retryable", "meaning"), rows)


def errors() -> str:
    """The codes of refused requests, by status."""
    known = {(int(error.status), error.code): error.detail for error in _request_errors()}
    # Its code is that of the job which it tells of.
    del known[int(HTTPStatus.GONE), http_errors.TrackGone.code]
    known[int(HTTPStatus.GONE), "cancelled, expired, or the job's own code"] = http_errors.TrackGone.detail
    # The code says which of the two it is.
    # Their codes are those of a job that fails for the same reason.
    for error in (ProbeRefused, ProbeFailed):
        status = int(error.status)
        known[status, f"the code of a job that fails ({error.code})"] = known.pop((status, error.code))
    refused = known.pop((int(PlaylistRefused.status), PlaylistRefused.code))
    known[int(PlaylistRefused.status), "playlist_endless or playlist_personal"] = refused
    rows = (
        (str(status), code if " " in code else f"`{code}`", detail) for (status, code), detail in sorted(known.items())
    )
    return table(("status", "`code`", "meaning"), rows)


def routes() -> str:
    """The routes, with the statuses of their answers."""
    rows = (
        (
            f"`{'GET, HEAD' if route.method == 'GET' else route.method} {route.example}`",
            route.summary,
            " ".join(map(str, sorted(route.responses))),
        )
        for route in ROUTES
    )
    return table(("route", "what it does", "statuses"), rows)


def figures() -> str:
    """The ratios of the last recorded `make bench`, against ffmpeg and the yt-dlp command."""
    text = RESULTS.read_text(encoding="utf-8")
    rows = {row[0]: row for line in text.splitlines() if len(row := _cells(line)) == 5}

    def measured(load: str, what: str) -> str:
        return rows[f"{load}: {what}"][1].split()[0]

    def memory(load: str) -> str:
        _, value, *_, note = rows[f"{load}: peak memory, whole tree (PSS)"]
        theirs = re.search(r"yt-dlp commands (\d+) MB", note)
        assert theirs is not None, note
        return f"{float(theirs[1]) / float(value.split()[0]):.1f}"

    loads = ("20 songs", "40 clips")
    lines = [
        ("CPU time of ffmpeg alone, without any download", "ffmpeg's CPU alone / ours"),
        ("CPU time of `yt-dlp -x --audio-format mp3`, 20 at once", "yt-dlp command's CPU / ours"),
        ("time until all are done, with the same command", "yt-dlp command's wall time / ours"),
    ]
    body = [(label, *(measured(load, what) for load in loads)) for label, what in lines]
    body.append(("peak memory, with the same command", *map(memory, loads)))
    return table(("others / ytmp3", "20 songs of 240 s", "40 clips of 30 s"), body)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "settings": settings,
    "states": states,
    "failures": failures,
    "errors": errors,
    "routes": routes,
    "figures": figures,
}


def _request_errors(root: type[RequestError] = RequestError) -> Iterator[type[RequestError]]:
    for error in root.__subclasses__():
        if error.__module__.startswith("ytmp3."):
            yield error
        yield from _request_errors(error)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


def main() -> int:
    """Rewrite the documents, or check them; return an exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.document_tables", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="rewrite nothing; exit with 1 if a document is out of date"
    )
    options = parser.parse_args()
    is_current = True
    for path, refresh in files():
        before = path.read_text(encoding="utf-8")
        after = refresh(before)
        if after != before:
            is_current = False
            if not options.check:
                path.write_text(after, encoding="utf-8")
            print(f"{'out of date' if options.check else 'rewritten'}: {path.relative_to(ROOT)}")
    return 1 if options.check and not is_current else 0


if __name__ == "__main__":
    sys.exit(main())
