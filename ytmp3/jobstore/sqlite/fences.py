"""Decides whether a write of a holder may be stored: the lease must be the present one, or the write a repetition.

A holder can lose its conversion without noticing: it was frozen, its lease ran out, and another instance adopted the
conversion. Its next write is refused by the functions here, so it never overwrites the work of the new holder.

A refused write must not be confused with a repeated one. If the reply to a write was lost, the holder sends it again,
and the record does not have the state from which the write began any more. Such a call must succeed, or a finished
track would be deleted by its own instance.
"""

from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.job import Conversion, Lease, State
from ytmp3.core.states import LIVE


def is_held_with(conversion: Conversion, lease: Lease) -> bool:
    """Whether the lease is the present one: both its holder and its token (`core.job.Lease` says why both).

    The state is checked first, because an ended conversion keeps its token: it is no longer held by anyone.
    """
    is_held = conversion.state in LIVE and conversion.holder is not None
    return is_held and conversion.lease == lease


def check_running(conversion: Conversion, lease: Lease) -> None:
    """Raise LeaseLost unless the lease is that of a running conversion."""
    if conversion.state is not State.RUNNING or not is_held_with(conversion, lease):
        raise LeaseLost


def was_retried(conversion: Conversion, lease: Lease, code: FailureCode) -> bool:
    """Return whether the same `retry` has been stored already, and no instance has adopted the conversion since.

    A stored retry has raised the token by one and removed the holder. An adoption would raise the token again, so
    exactly this token without a holder means that nothing else has happened since. The error is compared too, because a
    `release` of the same lease raises the token by one as well.
    """
    return (
        conversion.state is State.QUEUED
        and conversion.holder is None
        and conversion.token == lease.token + 1
        and conversion.error is code
    )
