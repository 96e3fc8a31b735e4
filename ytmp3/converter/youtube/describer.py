"""The server's side of a child process that finds out what YouTube offers for a video: its limits, its end, its report.

The child is not trusted: a report of another form is ignored, and the server itself limits the child's time.
"""

import msgspec

from ytmp3.converter.sandbox.protocol import Profile
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.youtube.child_run import run_extraction
from ytmp3.converter.youtube.events import Described, DescribeTask, Extraction, Facts, Failed, decode_event
from ytmp3.converter.youtube.fetch import Connections
from ytmp3.core.description import MAX_LANGUAGES, Description
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.language import parse_language


async def describe_video(
    spawner: Spawner, extraction: Extraction, profile: Profile, connections: Connections, *, seconds: float
) -> "Found":
    """Run a child for at most `seconds`, and return what it has found, or why it has found nothing.

    `profile` is what the child may reach besides its scratch folder.

    Raises:
        ZygoteError: the child could not be forked.
    """
    report = _Report()
    task = msgspec.json.encode(DescribeTask(extraction=connections.with_time_limits(extraction, seconds)))
    confined = msgspec.structs.replace(profile, writable=(extraction.scratch,))
    has_ended = await run_extraction(spawner, task, confined, connections, report.on_line, seconds=seconds)
    return report.found(FailureCode.TOOL_MISSING if has_ended else FailureCode.UPSTREAM_TIMEOUT)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The end of such a child."""

    result: Description | ConversionError
    facts: Facts | None
    """What YouTube responded to the extraction; None if the child has not reported it."""


class _Report:
    """The report of a child. A line that is not an event is ignored."""

    def __init__(self) -> None:
        self._last: Described | Failed | None = None

    def on_line(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if isinstance(event, Described | Failed):
            self._last = event

    def found(self, otherwise: FailureCode) -> Found:
        """Return the report. `otherwise` is the failure code if the child has ended without a report."""
        match self._last:
            case Described(description=description, facts=facts) if _is_plausible(description):
                return Found(result=description, facts=facts)
            case Failed(code=code, reason=reason, facts=facts) if code in set(FailureCode):
                return Found(result=ConversionError(FailureCode(code), reason), facts=facts)
            case _:
                return Found(result=ConversionError(otherwise, "the child ended without a report"), facts=None)


def _is_plausible(description: Description) -> bool:
    tags = [track.language for track in (description.original, *description.languages) if track.language is not None]
    return len(description.languages) <= MAX_LANGUAGES and all(parse_language(tag) == tag for tag in tags)
