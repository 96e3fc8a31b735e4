"""Hashes of Redis as records: here bytes become values. Only this room knows how a record is laid out."""

import contextlib
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from ytmp3.core.errors import StoreUnusable
from ytmp3.core.ids import ConversionId
from ytmp3.core.job import Conversion, Job, Metadata, Ticket, Track
from ytmp3.jobstore.records import with_known_recipe
from ytmp3.jobstore.redis.link import Reply

SHARDS: Final = tuple(f"{shard:02x}" for shard in range(256))
SHARD_CHARACTERS: Final = 2
STATES: Final = ("queued", "running", "done", "failed", "cancelled")

_JSON_FIELDS: Final = frozenset({"metadata", "track"})


def root_of(some_id: str) -> str:
    """Return the name under which everything of a job's or conversion's shard is kept."""
    return f"ytmp3:{{{some_id[:SHARD_CHARACTERS]}}}"


def conversion_at(conversion_id: ConversionId) -> str:
    """Return the name of the hash that holds a conversion."""
    return f"{root_of(conversion_id)}:c:{conversion_id}"


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Turn what goes wrong in reading a reply of another shape, or a record that is none, into the store's error."""
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreUnusable(f"a reply of Redis cannot be read: {error}") from None


def ticket_of(reply: Reply) -> Ticket | None:
    """Return the ticket of a script's {job, conversion}; None for nil.

    Raises:
        StoreUnusable: it is not one.
    """
    if reply is None:
        return None
    with readable():
        job, conversion = reply
        return Ticket(job=msgspec.convert(_fields(job), Job, strict=False), conversion=conversion_of(conversion))


def conversion_of(reply: Reply) -> Conversion:
    """Return the conversion of a flat list of names and values; fields that this version does not know are passed over.

    Raises:
        StoreUnusable: it is not one.
    """
    with readable():
        fields = _fields(reply)
        flat = {name: value for name, value in fields.items() if name not in _JSON_FIELDS}
        metadata = msgspec.json.decode(fields["metadata"], type=Metadata) if "metadata" in fields else None
        track = msgspec.json.decode(fields["track"], type=Track) if "track" in fields else None
        conversion = msgspec.convert(flat, Conversion, strict=False)
        return with_known_recipe(replace(conversion, metadata=metadata, track=track))


def _fields(flat: Reply) -> dict[str, str]:
    names = iter(flat)
    return {name.decode(): value.decode() for name, value in zip(names, names, strict=True)}
