"""Hashes of Redis as records: here bytes become values. Only this room knows how a record is laid out."""

from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from ytmp3.errors import StoreUnusable
from ytmp3.job import Conversion, Job, Metadata, Ticket, Track
from ytmp3.jobstore.redis_link import Reply

SHARDS: Final = tuple(f"{shard:02x}" for shard in range(256))
SHARD_CHARACTERS: Final = 2
STATES: Final = ("queued", "running", "done", "failed", "cancelled")

_JSON_FIELDS: Final = frozenset({"metadata", "track"})

T = TypeVar("T")


def root_of(some_id: str) -> str:
    """Return the name under which everything of a job's or conversion's shard is kept."""
    return f"ytmp3:{{{some_id[:SHARD_CHARACTERS]}}}"


def conversion_at(conversion_id: str) -> str:
    return f"{root_of(conversion_id)}:c:{conversion_id}"


def ticket_of(reply: Reply) -> Ticket | None:
    """Return the ticket of a script's {job, conversion}; None for nil."""
    if reply is None:
        return None
    job, conversion = reply
    return Ticket(job=_converted(_fields(job), Job), conversion=conversion_of(conversion))


def conversion_of(reply: Reply) -> Conversion:
    """Return the conversion of a flat list of names and values; fields that this version does not know are passed over.

    Raises:
        StoreUnusable: it is not one.
    """
    fields = _fields(reply)
    flat = {name: value for name, value in fields.items() if name not in _JSON_FIELDS}
    try:
        metadata = msgspec.json.decode(fields["metadata"], type=Metadata) if "metadata" in fields else None
        track = msgspec.json.decode(fields["track"], type=Track) if "track" in fields else None
    except msgspec.DecodeError as error:
        raise StoreUnusable(f"a record in Redis cannot be read: {error}") from None
    return replace(_converted(flat, Conversion), metadata=metadata, track=track)


def _fields(flat: Reply) -> dict[str, str]:
    names = iter(flat)
    return {name.decode(): value.decode() for name, value in zip(names, names, strict=True)}


def _converted(fields: dict[str, str], kind: type[T]) -> T:
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise StoreUnusable(f"a record in Redis cannot be read: {error}") from None
