"""The log line of each event. Starts, progress and timings have none: they would drown the others.

Operators count by the names of these lines, so each has one meaning: `conversion failed` is written once for each
conversion, when it has ended for good. Lines that belong to an attempt carry the conversion's id, because the worker
has set it (`logs.conversion_id`).
"""

import logging

from ytmp3.engine import events

log = logging.getLogger(__name__)


def log_event(event: events.Event) -> None:
    """Write the line of `event`: a listener."""
    match event:
        case events.Accepted(ticket=ticket, outcome=outcome):
            conversion = ticket.conversion
            extra = {
                "job_id": ticket.job.job_id,
                "conversion_id": conversion.conversion_id,
                "video_id": conversion.video_id,
                "quality": conversion.recipe.quality,
                "outcome": outcome,
            }
            log.info("job accepted", extra=extra)
        case events.JobCancelled(ticket=ticket):
            extra = {"job_id": ticket.job.job_id, "conversion_id": ticket.conversion.conversion_id}
            log.info("job cancelled", extra=extra)
        case events.Adopted(conversions=conversions):
            log.info("conversions adopted", extra={"conversions": len(conversions)})
        case events.StoreFailed():
            # At debug level only: the same outage fails every call of every loop, and the watcher reports it once.
            log.debug("job store call failed", extra={"operation": event.operation, "error": str(event.error)})
        case _:
            _log_attempt(event)


def _log_attempt(event: events.Event) -> None:
    match event:
        case events.Finished(conversion=conversion, seconds=seconds):
            size_bytes = None if conversion.track is None else conversion.track.size_bytes
            log.info("conversion done", extra={"seconds": round(seconds, 3), "size_bytes": size_bytes})
        case events.Failed(conversion=conversion, code=code, reason=reason):
            extra = {"code": code, "reason": reason, "attempt": conversion.attempts + 1}
            log.warning("conversion failed", extra=extra)
        case events.Retried(conversion=conversion, code=code, reason=reason, delay_seconds=seconds):
            extra = {"code": code, "reason": reason, "attempt": conversion.attempts + 1}
            log.warning("retry scheduled", extra=extra | {"delay_seconds": round(seconds, 1)})
        case events.Refused(code=code, blocked_seconds=seconds):
            log.warning("refused by YouTube: queued again", extra={"code": code, "blocked_seconds": seconds})
        case events.Cancelled(conversion=conversion):
            log.info("conversion cancelled", extra={"conversion_id": conversion.conversion_id})
        case events.Released():
            log.info("conversion given back")
        case events.LeaseLost(conversion=conversion):
            log.warning("lease lost: nothing was published", extra={"token": conversion.token})
        case _:
            pass
