"""The changes of jobs and batches: from an event stream, or by polling where there is none.

An old service has no streams, and a proxy may withhold their bytes. The client notices this when the first event of a
stream does not arrive, and polls from then on. A stream that has begun and breaks is opened again.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ytmp3.client.api import MAX_ANSWER_BYTES, Api, Refused, Unreachable

POLL_SECONDS: Final = 1.0
"""Shortest interval, in seconds, at which all open jobs or a batch are polled."""
ASKED_PER_SECOND: Final = 10
"""Most status requests per second: nginx in front of a service admits 50 from one address."""
ITEMS_PER_SECOND: Final = 100
"""Most items of a batch that are polled per second. Each has about 1 kB."""
FIRST_EVENT_SECONDS: Final = 10.0
"""Longest wait, in seconds, for the first event of the first stream. The service sends it at once."""
NEXT_EVENT_SECONDS: Final = 40.0
"""Longest silence, in seconds, of a stream that has sent events before. The service sends heartbeats every 15 s."""
BUSY_SECONDS: Final = 60.0
"""How long, in seconds, to poll after the service refused a stream because too many were open, or one broke."""
_BUSY: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `name` is `job`, `batch`, `refused`, `end`, or empty if nothing has changed for a while."""

    name: str
    data: dict[str, Any]
    """The job or the batch; of a `refused` job, its `job_id`, and the `code` and `message` of the response."""


IDLE: Final = Change("", {})
END: Final = Change("end", {})
"""All jobs, or the batch, have ended."""


@dataclass(slots=True, kw_only=True)
class Updates:
    """Reads the changes of a service. Only tests pass another time than the default ones."""

    api: Api
    first_event_seconds: float = FIRST_EVENT_SECONDS
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _streams_from: float = 0.0
    """When streams may be opened again; infinite if the service has none."""
    _is_proven: bool = False
    """Whether a stream has sent an event, so that nothing withholds them."""

    def of_jobs(self, job_ids: Sequence[str]) -> Iterator[Change]:
        """Yield the states of the jobs and then their changes, until the stream ends or all were polled once.

        The caller repeats the call while jobs are open.

        Raises:
            Unreachable: the service did not respond for too long.
        """
        return self._streamed(f"/events?jobs={','.join(job_ids)}", self._polled_jobs(job_ids))

    def of_batch(self, batch_id: str) -> Iterator[Change]:
        """Yield the states of a batch and of the jobs of its open items, in the same way.

        Raises:
            Unreachable: the service did not respond for too long.
            Refused: there is no such batch any more.
        """
        return self._streamed(f"/batches/{batch_id}/events", self._polled_batch(batch_id))

    def _streamed(self, path: str, polled: Iterable[Change]) -> Iterator[Change]:
        response = self._opened(path)
        if response is None:
            yield from polled
            return
        has_begun = False
        try:
            with response:
                for change in changes_in(response):
                    has_begun = self._is_proven = True
                    yield change
                    if change is END:
                        return
        except (OSError, http.client.HTTPException):
            self._has_failed()
        if has_begun:
            self.sleep(POLL_SECONDS)  # the service is restarted: the stream is not opened again at once
        else:
            yield from polled

    def _has_failed(self) -> None:
        """Poll for a while; or for ever, if no stream has ever worked."""
        self._streams_from = self.clock() + BUSY_SECONDS if self._is_proven else float("inf")

    def _opened(self, path: str) -> http.client.HTTPResponse | None:
        """Return the response to the request of a stream, or None if the jobs must be polled."""
        if self.clock() < self._streams_from:
            return None
        seconds = NEXT_EVENT_SECONDS if self._is_proven else self.first_event_seconds
        try:
            response = self.api.open("GET", path, {"Accept": "text/event-stream"}, seconds=seconds)
        except Unreachable:
            self._has_failed()
            return None
        except Refused as error:
            if error.status in _BUSY:
                self._streams_from = self.clock() + BUSY_SECONDS
            elif error.code not in {"job_unknown", "batch_unknown"}:
                self._streams_from = float("inf")
            return None
        if response.status != 200 or response.headers.get_content_type() != "text/event-stream":
            response.close()
            self._streams_from = float("inf")
            return None
        return response

    def _polled_jobs(self, job_ids: Sequence[str]) -> Iterator[Change]:
        for job_id in job_ids:
            try:
                yield Change("job", self.api.status(job_id))
            except Refused as error:
                yield Change("refused", {"job_id": job_id, "code": error.code, "message": str(error)})
        self.sleep(max(POLL_SECONDS, len(job_ids) / ASKED_PER_SECOND))

    def _polled_batch(self, batch_id: str) -> Iterator[Change]:
        batch = self.api.batch(batch_id)
        yield Change("batch", batch)
        if batch["completed_at"] is None:
            for item in self.api.items(batch_id):
                if item["job"] is not None:
                    yield Change("job", item["job"])
            self.sleep(max(POLL_SECONDS, batch["counts"]["total"] / ITEMS_PER_SECOND))


def changes_in(lines: Iterable[bytes]) -> Iterator[Change]:
    """Yield the changes in the lines of a stream of server-sent events, and `IDLE` for each heartbeat.

    Raises:
        OSError, http.client.HTTPException: the connection broke.
    """
    name, data = "", ""
    for line in _bounded(lines):
        text = line.decode(errors="replace").rstrip("\r\n")
        if text.startswith(":"):
            yield IDLE
        elif text.startswith("event:"):
            name = text.removeprefix("event:").strip()
        elif text.startswith("data:"):
            data += text.removeprefix("data:")
        elif not text:
            if name == "end":
                yield END
                return
            change = _change(name, data)
            if change is not None:
                yield change
            name, data = "", ""


def _bounded(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines, none of which is longer than MAX_ANSWER_BYTES."""
    if not isinstance(lines, http.client.HTTPResponse):
        yield from lines
        return
    while line := lines.readline(MAX_ANSWER_BYTES):
        yield line


def _change(name: str, data: str) -> Change | None:
    """Return the change that an event reports; None for an event that the client does not know."""
    try:
        decoded = json.loads(data)
    except ValueError:
        return None
    if name == "unknown" and isinstance(decoded, dict):
        message = "There is no job with this id. Jobs are forgotten some time after their end."
        return Change("refused", {"job_id": decoded.get("job_id"), "code": "job_unknown", "message": message})
    return Change(name, decoded) if name in {"job", "batch"} and isinstance(decoded, dict) else None
