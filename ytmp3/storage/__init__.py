"""Where files live, in two places with different rules.

* `Shelf`, a Protocol: finished tracks. They lie in a folder (`local`) or, with another adapter, elsewhere. The shelf
  says how a track is sent: from an open file, by the reverse proxy, or from another address.
* `scratch`: work in progress. It is always a local folder, because tools write into it through descriptors.

A track's file name is immutable, and is written by exactly one publisher (`core.job.track_file_name`). This package
knows no jobs and no HTTP.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msgspec import Struct


class Space(Struct, frozen=True, kw_only=True):
    """The state of the disk, in bytes."""

    total_bytes: int
    free_bytes: int

    @property
    def reserve_bytes(self) -> int:
        """What must stay free for conversions under way: max(1 GiB, 5 %). Below it no new conversion is admitted."""
        return max(2**30, self.total_bytes // 20)

    @property
    def is_low(self) -> bool:
        """Whether new conversions must be refused."""
        return self.free_bytes < self.reserve_bytes


@dataclass(frozen=True, slots=True)
class OpenFile:
    """The track is sent from this descriptor. The receiver closes it."""

    descriptor: int


@dataclass(frozen=True, slots=True)
class InternalRedirect:
    """The reverse proxy sends the track: `path` is the value of the `X-Accel-Redirect` header."""

    path: str


@dataclass(frozen=True, slots=True)
class Url:
    """The client fetches the track from this address, without us."""

    url: str


Delivery = OpenFile | InternalRedirect | Url
"""How a track is sent."""


class Shelf(Protocol):
    """The contract of a place for finished tracks."""

    async def publish(self, source: Path, file_name: str) -> float:
        """Put a finished file of the scratch folder on the shelf, durably. `source` is gone afterwards.

        Returns:
            The time of its last change, in seconds since 1970: the track's `published_at`.

        Raises:
            OSError: nothing is on the shelf under this name.
        """

    async def holds(self, file_name: str, size_bytes: int) -> bool:
        """Return whether the track is there and has this size."""

    async def deliver(self, file_name: str, size_bytes: int, *, may_redirect: bool) -> Delivery | None:
        """Return how to send the track; None if it is not there or does not have this size.

        `may_redirect` is false where the answer must not come from the reverse proxy.
        """

    async def delete(self, file_name: str) -> None:
        """Remove a track; a missing one is fine. A transfer under way is not disturbed."""

    async def names(self, *, older_than_seconds: float) -> list[str]:
        """List the files whose last change is older: the janitor removes those that no record knows."""
