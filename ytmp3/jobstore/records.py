"""What both adapters say alike about a record: its bytes, whether it still serves, what a submission came to.

Pure, like the core. A field that this version does not know (a newer minor version wrote it) survives a rewrite.
"""

from typing import Final

import msgspec

from ytmp3.core.errors import StoreUnusable
from ytmp3.core.job import Conversion, Job, State, Ticket
from ytmp3.jobstore import Counts, Outcome

Unknown = dict[str, msgspec.Raw]
"""The fields of a record that this version does not know."""

_KNOWN: Final = frozenset(Conversion.__struct_fields__)
_encoder: Final = msgspec.json.Encoder()
_conversion_decoder: Final = msgspec.json.Decoder(Conversion)
_job_decoder: Final = msgspec.json.Decoder(Job)
_fields_decoder: Final = msgspec.json.Decoder(Unknown)


def encode_conversion(conversion: Conversion, unknown: Unknown) -> bytes:
    """Return the record's JSON; `unknown` is what `unknown_fields` found in the record it replaces."""
    encoded = _encoder.encode(conversion)
    if not unknown:
        return encoded
    return _encoder.encode({**_fields_decoder.decode(encoded), **unknown})


def decode_conversion(record: bytes) -> Conversion:
    """Return the conversion.

    Raises:
        StoreUnusable: the record is not one.
    """
    try:
        return with_known_recipe(_conversion_decoder.decode(record))
    except (msgspec.DecodeError, ValueError) as error:
        raise StoreUnusable(f"a record of a conversion cannot be read: {error}") from None


def with_known_recipe(conversion: Conversion) -> Conversion:
    """Return the conversion itself.

    Raises:
        ValueError: its key ends with a recipe that this version does not know.
    """
    _ = conversion.recipe
    return conversion


def unknown_fields(record: bytes) -> Unknown:
    """Return the fields of a record that this version does not know; they are written back unchanged."""
    return {name: value for name, value in _fields_decoder.decode(record).items() if name not in _KNOWN}


def encode_job(job: Job) -> bytes:
    """Return the job's record."""
    return _encoder.encode(job)


def decode_job(record: bytes) -> Job:
    """Return the job.

    Raises:
        StoreUnusable: the record is not one.
    """
    try:
        return _job_decoder.decode(record)
    except msgspec.DecodeError as error:
        raise StoreUnusable(f"a record of a job cannot be read: {error}") from None


def serves(conversion: Conversion, *, now: float, retention_seconds: float) -> bool:
    """Whether a new job of the same key may ride on `conversion` (that is not forgotten)."""
    match conversion.state:
        case State.QUEUED | State.RUNNING:
            return True
        case State.DONE:
            return conversion.completed_at is not None and conversion.completed_at + retention_seconds > now
        case State.FAILED | State.CANCELLED:
            return False


def outcome_of(ticket: Ticket) -> Outcome:
    """Return what the ticket's submission came to: the same answer for the first call and for its repetition."""
    if not ticket.job.deduplicated:
        return Outcome.CREATED
    completed_at = ticket.conversion.completed_at
    served = ticket.conversion.state is State.DONE and completed_at is not None
    return Outcome.CACHED if served and ticket.job.created_at >= (completed_at or 0.0) else Outcome.JOINED


def counts_of(tallies: dict[str, int]) -> Counts:
    """Return the counts from tallies of jobs by state; a cancelled job is tallied as such, whatever it rode on."""
    return Counts(
        pending=tallies.get(State.QUEUED, 0),
        processing=tallies.get(State.RUNNING, 0),
        completed=tallies.get(State.DONE, 0),
        failed=tallies.get(State.FAILED, 0),
        cancelled=tallies.get(State.CANCELLED, 0),
    )
