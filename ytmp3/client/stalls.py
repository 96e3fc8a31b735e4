"""Decides when waiting has become pointless, so that a command ends although its jobs do not.

A service repeats an attempt that failed because YouTube could not be reached, for up to a day. The rule: the client
gives up if nothing of the command has advanced for `limit_seconds`, and either an attempt has failed or the service
reports that it is unhealthy. It does not give up merely because the queue of a healthy service is long.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ytmp3.client.api import Api, Batch, Job


class GaveUp(Exception):
    """Nothing has advanced for too long. The text says why; `code` is that of the last failed attempt, if known."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True, kw_only=True)
class Stalls:
    """Remembers how far each job and batch has come. With a `limit_seconds` of 0, the client never gives up."""

    api: Api
    limit_seconds: float
    clock: Callable[[], float] = time.monotonic
    _best: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The furthest state of each subject, by its id. A repeated attempt begins again, which is no advance."""
    _troubles: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The code and the text of the last error of each subject, by its id."""
    _advanced_at: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin to measure."""
        self._advanced_at = self.clock()

    def see_job(self, job: Job) -> None:
        """Record the state of an open job."""
        error = job["error"]
        if error is not None:
            self._troubles[job["job_id"]] = error["code"], error["message"]
        self._see(job["job_id"], (job["progress"], -float(job["queue_position"] or 0)))

    def see_batch(self, batch: Batch) -> None:
        """Record the state of an open batch. A batch whose entries cannot be read does not say so before its end."""
        batch_id, counts = batch["batch_id"], batch["counts"]
        if batch["status"] == "listing":
            self._troubles[batch_id] = (
                "no_progress",
                "The service has not been able to read the playlist or the chapters.",
            )
        else:
            self._troubles.pop(batch_id, None)
        ended = counts["total"] - counts["waiting"] - counts["pending"] - counts["processing"]
        self._see(batch_id, (counts["total"], ended))

    def see_end(self, subject: str) -> None:
        """Record that a job or a batch has ended."""
        self._best.pop(subject, None)
        self._troubles.pop(subject, None)
        self._advanced_at = self.clock()

    def check(self) -> None:
        """Raise an error if waiting is pointless.

        Raises:
            GaveUp, Unreachable
        """
        stalled_seconds = self.clock() - self._advanced_at
        if not self.limit_seconds or stalled_seconds < self.limit_seconds:
            return
        if self._troubles:
            raise GaveUp(*list(self._troubles.values())[-1])
        if reasons := self.api.failed_checks():
            raise GaveUp("no_progress", f"The service is unhealthy: {'; '.join(reasons)}.")
        # The service is healthy, so the queue is long. Its health is read again after the same time.
        self._advanced_at = self.clock()

    def _see(self, subject: str, state: tuple[float, float]) -> None:
        best = self._best.get(subject)
        if best is None or state > best:
            self._best[subject] = state
            self._advanced_at = self.clock()
