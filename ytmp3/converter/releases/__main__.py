"""The program of the child processes that fetch and try a release (`python -m ytmp3.converter.releases`): a zygote.

Each task runs in a fork of it, with a sandbox of its own. yt-dlp must not be loaded before the fork, because a child
loads the release that it tries.
"""

import os
import traceback
from collections.abc import Callable
from typing import assert_never

from msgspec import json

from ytmp3.converter.releases import index, inspection
from ytmp3.converter.releases.messages import Ask, Failed, Fetch, Inspect, Outcome, decode_task, shown
from ytmp3.converter.sandbox.zygote import serve
from ytmp3.core.errors import Ytmp3Error


class ReleaseTasks:
    """Implements `zygote.Preloaded`."""

    def ready(self) -> bytes:
        """Return nothing: there are no versions to report."""
        return b""

    def run(self, task: bytes, events: int, leave_everything: Callable[[], object]) -> int:
        """Do one task in a forked child, and report its outcome."""
        outcome = _outcome_of(task)
        os.write(events, json.encode(outcome) + b"\n")
        return 0


def _outcome_of(task: bytes) -> Outcome:
    try:
        given = decode_task(task)
        match given:
            case Fetch():
                return index.fetch(given)
            case Ask():
                return index.ask(given)
            case Inspect():
                return inspection.inspect(given)
            case _:
                assert_never(given)
    except (Ytmp3Error, OSError) as error:
        return Failed(reason=shown(str(error)))
    except Exception as error:  # noqa: BLE001  the outermost frame of the child: it reports and ends
        traceback.print_exc()
        return Failed(reason=shown(repr(error)))


def main() -> None:
    """Serve until the command closes its end of the socket."""
    serve(lambda _: ReleaseTasks())


if __name__ == "__main__":
    main()
