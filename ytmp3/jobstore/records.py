"""Code that both adapters share: the JSON of records, and the counts of jobs by status.

Pure, like the core: no I/O, no clock. Fields of a conversion that this version does not know (a newer version wrote
them) are kept when the record is rewritten.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ytmp3.core.batch import Batch, Item
from ytmp3.core.errors import StoreUnusable
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import Conversion, Job, State, Ticket
from ytmp3.jobstore import Counts, Outcome, Submitted

Unknown = dict[str, msgspec.Raw]
"""The fields of a record that this version does not know, with their JSON."""

_KNOWN: Final = frozenset(Conversion.__struct_fields__)
_encoder: Final = msgspec.json.Encoder()
_conversion_decoder: Final = msgspec.json.Decoder(Conversion)
_job_decoder: Final = msgspec.json.Decoder(Job)
_batch_decoder: Final = msgspec.json.Decoder(Batch)
_items_decoder: Final = msgspec.json.Decoder(tuple[Item, ...])
_fields_decoder: Final = msgspec.json.Decoder(Unknown)


def encode_conversion(conversion: Conversion, unknown: Unknown) -> bytes:
    """Return the record's JSON. `unknown` is the result of `unknown_fields` for the record that is replaced."""
    encoded = _encoder.encode(conversion)
    if not unknown:
        return encoded
    return _encoder.encode({**_fields_decoder.decode(encoded), **unknown})


def decode_conversion(record: bytes) -> Conversion:
    """Decode the record of a conversion. Records of older versions can be decoded too.

    Raises:
        StoreUnusable: the record cannot be read.
    """
    try:
        return with_known_recipe(_conversion_decoder.decode(record))
    except (msgspec.DecodeError, ValueError) as error:
        raise StoreUnusable(f"a record of a conversion cannot be read: {error}") from None


def with_known_recipe(conversion: Conversion) -> Conversion:
    """Return the conversion if its recipe is known. Both adapters call this for each record that they read.

    Raises:
        ValueError: the key ends with a recipe that this version does not know.
    """
    _ = conversion.recipe
    return conversion


def unknown_fields(record: bytes) -> Unknown:
    """Return the fields of a conversion's record that this version does not know."""
    return {name: value for name, value in _fields_decoder.decode(record).items() if name not in _KNOWN}


def encode_job(job: Job) -> bytes:
    """Return the record's JSON."""
    return _encoder.encode(job)


def decode_job(record: bytes) -> Job:
    """Return the job of a record.

    Raises:
        StoreUnusable: the record cannot be read.
    """
    try:
        return _job_decoder.decode(record)
    except msgspec.DecodeError as error:
        raise StoreUnusable(f"a record of a job cannot be read: {error}") from None


def encode_batch(batch: Batch) -> bytes:
    """Return the record's JSON."""
    return _encoder.encode(batch)


def decode_batch(record: bytes) -> Batch:
    """Return the batch of a record.

    Raises:
        StoreUnusable: the record cannot be read.
    """
    try:
        return with_known_batch_recipe(_batch_decoder.decode(record))
    except (msgspec.DecodeError, ValueError) as error:
        raise StoreUnusable(f"a record of a batch cannot be read: {error}") from None


def with_known_batch_recipe(batch: Batch) -> Batch:
    """Return the batch if its recipe is known. Both adapters call this for each record that they read.

    Raises:
        ValueError: this version does not know the recipe.
    """
    _ = batch.recipe
    return batch


def encode_items(items: Sequence[Item]) -> bytes:
    """Return the JSON of the items of a batch."""
    return _encoder.encode(items)


def decode_items(record: bytes) -> tuple[Item, ...]:
    """Return the items of a record.

    Raises:
        StoreUnusable: the record cannot be read.
    """
    try:
        return _items_decoder.decode(record)
    except msgspec.DecodeError as error:
        raise StoreUnusable(f"the items of a batch cannot be read: {error}") from None


def submitted_of(ticket: Ticket, instance: InstanceId) -> Submitted:
    """Return the result of the submission that made this ticket, for the instance that called `submit`.

    It is derived from the records alone. So a submission that is repeated after a lost reply gets the same outcome,
    even if the conversion has ended in between.
    """
    outcome = _outcome_of(ticket)
    conversion = ticket.conversion
    is_held = conversion.holder == instance and conversion.state is State.QUEUED
    return Submitted(ticket=ticket, outcome=outcome, is_to_be_queued=outcome is Outcome.CREATED and is_held)


def _outcome_of(ticket: Ticket) -> Outcome:
    if not ticket.job.deduplicated:
        return Outcome.CREATED
    completed_at = ticket.conversion.completed_at
    is_done = ticket.conversion.state is State.DONE and completed_at is not None
    return Outcome.CACHED if is_done and ticket.job.created_at >= (completed_at or 0.0) else Outcome.JOINED


def counts_of(jobs_by_state: Mapping[str, int]) -> Counts:
    """Return the counts of jobs by status.

    `jobs_by_state` counts each job under its conversion's state, and a cancelled job under `cancelled`.
    """
    return Counts(
        pending=jobs_by_state.get(State.QUEUED, 0),
        processing=jobs_by_state.get(State.RUNNING, 0),
        completed=jobs_by_state.get(State.DONE, 0),
        failed=jobs_by_state.get(State.FAILED, 0),
        cancelled=jobs_by_state.get(State.CANCELLED, 0),
    )
