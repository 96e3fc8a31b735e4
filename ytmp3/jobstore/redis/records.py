"""Converts Redis hashes to values. The scripts write the hashes (see lua/shared.lua); only this module reads them.

A conversion is one hash. It has a field for each field of `core.job.Conversion` that is not None (`metadata` and
`track`
as JSON), and some fields that only the scripts use. Fields that this version does not know (a newer version wrote them)
are ignored.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from ytmp3.core.errors import StoreUnusable
from ytmp3.core.ids import ConversionId
from ytmp3.core.job import Conversion, Job, Metadata, Ticket, Track
from ytmp3.core.webhook import WebhookTarget
from ytmp3.jobstore.records import with_known_recipe
from ytmp3.jobstore.redis.link import Reply

SHARD_CHARACTERS: Final = 2
"""Number of characters of the shard at the beginning of each id (`core.ids.shard_of`)."""
SHARDS: Final = tuple(f"{shard:02x}" for shard in range(256))

_JSON_FIELDS: Final = frozenset({"metadata", "track"})


def root_of(some_id: str) -> str:
    """Return the prefix of all Redis keys in the shard of a job or a conversion.

    The braces make the shard a hash tag: Redis Cluster keeps all keys with the same tag on the same node, so one script
    may use any of them (the section "Hash tags" of the Redis Cluster specification).
    """
    return f"ytmp3:{{{some_id[:SHARD_CHARACTERS]}}}"


def conversion_at(conversion_id: ConversionId) -> str:
    """Return the Redis key of a conversion's hash."""
    return f"{root_of(conversion_id)}:c:{conversion_id}"


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Translate the errors of parsing a malformed reply or record into StoreUnusable."""
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreUnusable(f"a reply of Redis cannot be read: {error}") from None


def ticket_of(reply: Reply) -> Ticket | None:
    """Return the ticket in a script's reply {job, conversion}; None for the reply nil.

    Raises:
        StoreUnusable: the reply is malformed.
    """
    if reply is None:
        return None
    with readable():
        job, conversion = reply
        return Ticket(job=_job_of(job), conversion=conversion_of(conversion))


def conversion_of(reply: Reply) -> Conversion:
    """Return the conversion in a reply of HGETALL: a flat list of names and values.

    Raises:
        StoreUnusable: the reply is malformed.
    """
    with readable():
        fields = fields_of(reply)
        flat = {name: value for name, value in fields.items() if name not in _JSON_FIELDS}
        metadata = msgspec.json.decode(fields["metadata"], type=Metadata) if "metadata" in fields else None
        track = msgspec.json.decode(fields["track"], type=Track) if "track" in fields else None
        conversion = msgspec.convert(flat, Conversion, strict=False)
        return with_known_recipe(replace(conversion, metadata=metadata, track=track))


def _job_of(reply: Reply) -> Job:
    fields = fields_of(reply)
    webhooks = msgspec.json.decode(fields.pop("webhooks", "[]"), type=tuple[WebhookTarget, ...])
    return replace(msgspec.convert(fields, Job, strict=False), webhooks=webhooks)


def fields_of(flat: Reply) -> dict[str, str]:
    """Return the fields in a reply of HGETALL: a flat list of names and values."""
    names = iter(flat)
    return {name.decode(): value.decode() for name, value in zip(names, names, strict=True)}
