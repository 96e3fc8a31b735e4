"""Where MP3 files live: one Protocol, one adapter (`local`: a folder, which may be a shared volume).

A track's file name is immutable and belongs to exactly one publisher. This room knows no jobs.
"""

from pathlib import Path
from typing import Protocol

from msgspec import Struct


class Space(Struct, frozen=True, kw_only=True):
    """The state of the disk, in bytes."""

    total_bytes: int
    free_bytes: int

    @property
    def reserve_bytes(self) -> int:
        """What must stay free: below it no new work is admitted (max(1 GiB, 5 %))."""
        return max(2**30, self.total_bytes // 20)

    @property
    def is_low(self) -> bool:
        return self.free_bytes < self.reserve_bytes


class Storage(Protocol):
    """The contract. Methods that are not `async` are a single cheap system call."""

    async def open(self) -> None:
        """Create the folders, and sweep what dead attempts of this machine left. Raises OSError."""

    async def close(self) -> None:
        """Remove this instance's own scratch folder."""

    async def sweep(self) -> None:
        """Remove the scratch folders of instances that have died."""

    async def new_scratch(self, name: str) -> Path:
        """Create and return an empty folder for one attempt, on the same file system as the tracks."""

    async def remove_scratch(self, scratch: Path) -> None:
        """Remove an attempt's folder with all it holds; missing is fine."""

    async def publish(self, source: Path, file_name: str) -> float:
        """fsync, rename into place, fsync the folder. Returns the track's mtime, in seconds since 1970.

        Raises:
            OSError: nothing is in place.
        """

    def path(self, file_name: str) -> Path:
        """Return where a track's file is, or would be."""

    def exists(self, file_name: str, size_bytes: int) -> bool:
        """Return whether the file is there with this size."""

    async def delete(self, file_name: str) -> None:
        """Remove a track's file; missing is fine."""

    async def names(self, *, older_than_seconds: float) -> list[str]:
        """List the track files whose last change is older (for the sweep of files without a record)."""

    def space(self) -> Space:
        """Ask the file system."""
