"""Decides whether a write of a holder may be stored: the lease must be the present one, or the write a repetition."""

from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.job import Conversion, Lease, State
from ytmp3.core.states import LIVE


def is_held_with(conversion: Conversion, lease: Lease) -> bool:
    """Whether the lease is the present one: both its holder and its token (`core.job.Lease` says why both)."""
    is_held = conversion.state in LIVE and conversion.holder is not None
    return is_held and conversion.lease == lease


def check_running(conversion: Conversion, lease: Lease) -> None:
    """Raise LeaseLost unless the lease is that of a running conversion."""
    if conversion.state is not State.RUNNING or not is_held_with(conversion, lease):
        raise LeaseLost


def was_retried(conversion: Conversion, lease: Lease, code: FailureCode) -> bool:
    """Return whether the same `retry` has been stored already, and no instance has adopted the conversion since."""
    return (
        conversion.state is State.QUEUED
        and conversion.holder is None
        and conversion.token == lease.token + 1
        and conversion.error is code
    )
