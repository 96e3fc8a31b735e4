"""The server's side of a child process that tries one way to ask YouTube: its limits, its end, its last report."""

import msgspec

from ytmp3.converter.sandbox.protocol import Profile
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.youtube.child_run import run_extraction
from ytmp3.converter.youtube.events import Facts, Failed, Probed, ProbeTask, Sample, decode_event
from ytmp3.converter.youtube.fetch import Connections
from ytmp3.core.errors import FailureCode


async def probe(
    spawner: Spawner, task: ProbeTask, profile: Profile, connections: Connections, *, seconds: float
) -> Probed:
    """Run a child with this task for at most `seconds`, and return what it has found.

    `profile` is what the child may reach besides its scratch folder.

    Raises:
        ZygoteError: the child could not be forked.
    """
    last = _Last()
    extraction = connections.with_time_limits(task.extraction, seconds)
    encoded = msgspec.json.encode(msgspec.structs.replace(task, extraction=extraction))
    confined = msgspec.structs.replace(profile, writable=(task.scratch,))
    has_ended = await run_extraction(spawner, encoded, confined, connections, last.on_line, seconds=seconds)
    return last.result(FailureCode.TOOL_MISSING if has_ended else FailureCode.UPSTREAM_TIMEOUT, seconds)


class _Last:
    """The last report of a child. A line that is not an event is ignored."""

    def __init__(self) -> None:
        self._found: Probed | None = None
        self._failed: Failed | None = None

    def on_line(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if isinstance(event, Probed):
            self._found = event
        elif isinstance(event, Failed):
            self._failed = event

    def result(self, otherwise: FailureCode, seconds: float) -> Probed:
        """Return the report. `otherwise` is why the child has ended, if it has not said so itself."""
        is_late = otherwise is FailureCode.UPSTREAM_TIMEOUT
        reason = f"no end within {seconds:g} s" if is_late else "the youtube child ended without a report"
        found = self._found
        if self._failed is not None or found is None:
            failed = self._failed or Failed(code=otherwise.value, reason=reason, facts=Facts())
            return Probed(
                facts=failed.facts,
                extract_seconds=seconds if is_late else 0.0,
                code=failed.code,
                reason=failed.reason,
            )
        if found.code or not is_late:
            return found
        sample = Sample(size_bytes=0, seconds=seconds, error=reason)
        if found.beginning is None:
            return msgspec.structs.replace(found, beginning=sample)
        return msgspec.structs.replace(found, later=sample)
