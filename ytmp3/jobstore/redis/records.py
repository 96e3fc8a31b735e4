"""Converts Redis hashes to values. The scripts write the hashes (see lua/shared.lua); only this module reads them.

A conversion is one hash. It has a field for each field of `core.job.Conversion` that is not None (`metadata` and
`track` as JSON), and some fields that only the scripts use. Fields that this version does not know (a newer version
wrote them) are ignored.

Why a hash and not JSON as in SQLite: a script changes a few fields, and need not decode and encode the others. A field
that this version does not know stays in the hash, because a change writes only its own fields. Instances of two
versions can therefore work on the same records during an upgrade.

The rule: a record that cannot be read raises StoreUnusable, and never another exception. The callers expect
StoreErrors, and the text names the cause for the operator.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec.structs import replace

from ytmp3.core.errors import FailureCode, StoreUnusable
from ytmp3.core.job import Conversion, Job, Lease, Metadata, Ticket, Track
from ytmp3.core.tag_edits import TagEdits
from ytmp3.core.webhook import WebhookTarget
from ytmp3.jobstore import Renewal
from ytmp3.jobstore.records import with_known_recipe
from ytmp3.jobstore.redis.link import Argument, Reply

_JSON_FIELDS: Final = frozenset({"metadata", "track"})
_CODES: Final = frozenset(FailureCode)
ERRORS_OF_0_2: Final[Mapping[FailureCode, FailureCode]] = MappingProxyType(
    {
        FailureCode.EXTRACTOR_BROKEN: FailureCode.UPSTREAM_ERROR,
        FailureCode.UPSTREAM_UNREACHABLE: FailureCode.UPSTREAM_TIMEOUT,
        FailureCode.EGRESS_MISCONFIGURED: FailureCode.UPSTREAM_ERROR,
        FailureCode.EXPIRED_WAITING: FailureCode.LOST,
        FailureCode.STORAGE_FULL: FailureCode.LOST,
        FailureCode.FORMAT_UNAVAILABLE: FailureCode.NO_AUDIO,
        FailureCode.LANGUAGE_UNAVAILABLE: FailureCode.NO_AUDIO,
        FailureCode.CUT_OUT_OF_RANGE: FailureCode.NO_AUDIO,
    }
)
"""For each failure code that version 0.2 does not know: the one that it gave for the same failure. Instances of 0.2 may
read the records during an upgrade, or after a rollback (`set_error` in lua/shared.lua)."""


def error_in_0_2(code: FailureCode) -> FailureCode:
    """Return the failure code that instances of version 0.2 read for this one."""
    return ERRORS_OF_0_2.get(code, code)


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
        if "error" in fields:
            flat["error"] = _error_of(fields["error"], fields.get("code", ""))
        metadata = msgspec.json.decode(fields["metadata"], type=Metadata) if "metadata" in fields else None
        track = msgspec.json.decode(fields["track"], type=Track) if "track" in fields else None
        conversion = msgspec.convert(flat, Conversion, strict=False)
        return with_known_recipe(replace(conversion, metadata=metadata, track=track))


def _error_of(error: str, code: str) -> str:
    """Return the failure code of a record: the second part of the field `code`, if its first part is `error`.

    A code that this version does not know comes from a newer one. It reads as `lost`, unless `error` is known: a record
    that cannot be read would stop the adoption of all others.
    """
    old, _, present = code.partition("/")
    if old == error and present in _CODES:
        return present
    return error if error in _CODES else FailureCode.LOST


def _job_of(reply: Reply) -> Job:
    fields = fields_of(reply)
    webhooks, edits = targets_of(fields), fields.pop("edits", None)
    job = replace(msgspec.convert(fields, Job, strict=False), webhooks=webhooks)
    return job if edits is None else replace(job, edits=msgspec.json.decode(edits, type=TagEdits))


def targets_of(fields: dict[str, str]) -> tuple[WebhookTarget, ...]:
    """Take the webhooks, which are JSON, out of the fields of a job or a batch."""
    return msgspec.json.decode(fields.pop("webhooks", "[]"), type=tuple[WebhookTarget, ...])


def fields_of(flat: Reply) -> dict[str, str]:
    """Return the fields in a reply of HGETALL: a flat list of names and values."""
    names = iter(flat)
    return {name.decode(): value.decode() for name, value in zip(names, names, strict=True)}


def lease_arguments(lease: Lease) -> tuple[Argument, Argument, Argument]:
    """Return the arguments by which a script checks a lease."""
    return lease.conversion_id, lease.token, lease.holder


def renewal_arguments(renewal: Renewal) -> Iterable[Argument]:
    """Return the arguments by which `lua/renew.lua` extends one lease."""
    return (
        *lease_arguments(renewal.lease),
        renewal.stage or "",
        "" if renewal.progress is None else repr(renewal.progress),
        "" if renewal.queue_position is None else renewal.queue_position,
        b"" if renewal.metadata is None else msgspec.json.encode(renewal.metadata),
    )
