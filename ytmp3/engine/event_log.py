"""Writes a log line for each event, except for progress and timings, which are too many.

Operators count log lines by their names, so each name has one meaning. An attempt has one line for its start,
`conversion started`, and one for its end, which says how it ended. Both contain the conversion, the video, the client
that created the conversion, and the number of the attempt. `conversion failed` is written once for each failed
conversion, and not for attempts that are retried.

The levels follow from what an operator has to do: `error` if conversions stop until somebody acts, `warning` for a
failure that the service handles itself, `info` for the normal life of a job. Documents and scripts of operators search
for the names of these lines, so a name is a part of the interface, and a change of it belongs in the changelog.
"""

import logging
from collections.abc import Mapping

from ytmp3.core.batch import Batch, counts_of
from ytmp3.core.job import Conversion, Stage
from ytmp3.core.webhook import Delivery, DeliveryState
from ytmp3.engine import events

log = logging.getLogger(__name__)


def log_event(event: events.Event) -> None:
    """Write the log line of an event. This is a listener."""
    match event:
        case events.Accepted(ticket=ticket, outcome=outcome):
            conversion = ticket.conversion
            extra = {
                "job_id": ticket.job.job_id,
                "conversion_id": conversion.conversion_id,
                "video_id": conversion.video_id,
                "client": ticket.job.client,
                "recipe": conversion.recipe.spelling,
                "outcome": outcome,
            }
            log.info("job accepted", extra=extra)
        case events.JobCancelled(ticket=ticket):
            extra = {
                "job_id": ticket.job.job_id,
                "conversion_id": ticket.conversion.conversion_id,
                "client": ticket.job.client,
            }
            log.info("job cancelled", extra=extra)
        case events.Adopted(conversions=conversions):
            log.info("conversions adopted", extra={"conversions": len(conversions)})
        case events.BatchAccepted() | events.BatchCancelled() | events.BatchEnded() | events.BatchesAdopted():
            _log_batch(event)
        case events.UpstreamPaused() | events.UpstreamResumed() | events.IdentityPaused() | events.IdentityResumed():
            _log_upstream(event)
        case events.StoreFailed():
            # At debug level only: the same outage fails every call of every loop, and the watcher reports it once.
            log.debug("job store call failed", extra={"operation": event.operation, "error": str(event.error)})
        case events.WebhookSent() | events.WebhookDropped():
            _log_webhook(event)
        case _:
            _log_attempt(event)


def _log_upstream(
    event: events.UpstreamPaused | events.UpstreamResumed | events.IdentityPaused | events.IdentityResumed,
) -> None:
    """Write the line of a pause, or of its end.

    A pause of the whole service is an error, because an operator must act; one of a single identity is a warning,
    because conversions go on with the others.
    """
    match event:
        case events.UpstreamPaused(cause=cause, pause_seconds=seconds):
            log.error("new conversions are paused", extra={"cause": cause, "pause_seconds": round(seconds, 1)})
        case events.UpstreamResumed(cause=cause, open_seconds=seconds):
            log.info("conversions start again", extra={"cause": cause, "seconds": round(seconds, 1)})
        case events.IdentityPaused(name=name, cause=cause, pause_seconds=seconds):
            fields = {"identity": name, "cause": cause}
            log.warning("an identity is paused", extra=fields | {"pause_seconds": round(seconds, 1)})
        case events.IdentityResumed(name=name, cause=cause):
            log.info("an identity is used again", extra={"identity": name, "cause": cause})


def _log_attempt(event: events.Event) -> None:
    """Write the line of the start or end of an attempt. Other events, such as progress, have none.

    The end has the seconds of each stage, so that the log alone shows whether YouTube, the network or the encoder is
    slow.
    """
    match event:
        case events.Started(conversion=conversion):
            log.info("conversion started", extra=_attempt(conversion))
        case events.Finished(conversion=conversion, seconds=seconds):
            extra = _attempt(conversion) | {
                "title": None if conversion.metadata is None else conversion.metadata.title,
                "seconds": round(seconds, 3),
                "stage_seconds": _rounded(event.stage_seconds),
                "size_bytes": None if conversion.track is None else conversion.track.size_bytes,
            }
            log.info("conversion done", extra=extra)
        case events.Failed(conversion=conversion, code=code, reason=reason, seconds=seconds):
            extra = _attempt(conversion) | {"code": code, "reason": reason}
            extra["stage_seconds"] = _rounded(event.stage_seconds)
            log.warning("conversion failed", extra=extra | {"seconds": None if seconds is None else round(seconds, 3)})
        case events.Retried(conversion=conversion, code=code, reason=reason, delay_seconds=seconds):
            extra = _attempt(conversion) | {"code": code, "reason": reason}
            extra["stage_seconds"] = _rounded(event.stage_seconds)
            log.warning("retry scheduled", extra=extra | {"delay_seconds": round(seconds, 1)})
        case events.Postponed(conversion=conversion, code=code, reason=reason, delay_seconds=seconds):
            extra = _attempt(conversion) | {"code": code, "reason": reason}
            extra["stage_seconds"] = _rounded(event.stage_seconds)
            log.warning("queued again at no cost", extra=extra | {"delay_seconds": round(seconds, 1)})
        case events.Cancelled(conversion=conversion):
            log.info("conversion cancelled", extra=_attempt(conversion))
        case events.Released(conversion=conversion):
            log.info("conversion given back", extra=_attempt(conversion))
        case events.LeaseLost(conversion=conversion):
            log.warning("lease lost: nothing was published", extra=_attempt(conversion) | {"token": conversion.token})
        case _:
            pass


def _log_webhook(event: events.WebhookSent | events.WebhookDropped) -> None:
    """Write the line of one request, or of a delivery that is given up. No line has an address or a secret."""
    if isinstance(event, events.WebhookDropped):
        log.warning("webhook given up", extra=_delivery(event.delivery) | {"reason": event.reason})
        return
    extra = _delivery(event.delivery) | {"status": event.settlement.status, "seconds": round(event.seconds, 3)}
    match event.settlement.state:
        case DeliveryState.DELIVERED:
            log.info("webhook delivered", extra=extra)
        case DeliveryState.PENDING:
            retry = {"reason": event.cause, "delay_seconds": round(event.settlement.delay_seconds, 1)}
            log.warning("webhook retry scheduled", extra=extra | retry)
        case DeliveryState.FAILED:
            log.warning("webhook given up", extra=extra | {"reason": event.settlement.reason, "cause": event.cause})


def _delivery(delivery: Delivery) -> dict[str, object]:
    """Return the fields of a delivery. The address is named by its endpoint's id, as it may contain a secret."""
    return {
        "delivery_id": delivery.delivery_id,
        "event": delivery.event,
        "endpoint": delivery.endpoint,
        "attempt": delivery.attempts + 1,
    }


def _rounded(stage_seconds: Mapping[Stage, float] | Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of each stage with milliseconds."""
    return {str(stage): round(seconds, 3) for stage, seconds in stage_seconds.items()}


def _attempt(conversion: Conversion) -> dict[str, object]:
    """Return the fields that identify an attempt."""
    return {
        "conversion_id": conversion.conversion_id,
        "video_id": conversion.video_id,
        "client": conversion.client,
        "attempt": conversion.attempts + 1,
    }


def _log_batch(
    event: events.BatchAccepted | events.BatchCancelled | events.BatchEnded | events.BatchesAdopted,
) -> None:
    """Write the line of a batch that was accepted or cancelled or has ended, or of batches of a dead instance."""
    match event:
        case events.BatchAccepted(batch=batch):
            log.info("batch accepted", extra=_batch(batch))
        case events.BatchCancelled(batch=batch):
            log.info("batch cancelled", extra=_batch(batch))
        case events.BatchEnded(batch=batch):
            log.info("batch ended", extra=_batch(batch))
        case events.BatchesAdopted(batches=batches):
            log.info("batches adopted", extra={"batches": len(batches)})


def _batch(batch: Batch) -> dict[str, object]:
    """Return the fields of a batch, with the number of its items by their state."""
    counts = {mark.name.lower(): count for mark, count in counts_of(batch.marks).items()}
    return {"batch_id": batch.batch_id, "client": batch.client, "items": len(batch.marks), "items_by_state": counts}
