"""Files, in two places with different rules.

* `Shelf`, a Protocol, holds finished tracks. `local` keeps them in a folder, and `s3` in a bucket of an object store.
  The shelf decides how a track is sent: from an open file, by the reverse proxy, in pieces that this process reads from
  another server, or by that server itself.
* `scratch` holds work in progress. It is always a local folder, because tools write into it through descriptors.

A track file is never changed, and only one publisher ever writes its name (`core.job.track_file_name`). Its content is
compared with its SHA-256 before an instance sends it first (`integrity`). This package contains nothing about jobs or
HTTP.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from ytmp3.core.job import Track

LEAST_RESERVE_BYTES: Final = 2**30
MOST_RESERVE_BYTES: Final = 16 * 2**30
"""Bounds of the reserve if no size is set, in bytes. 1 GiB holds the files of 20 conversions of usual length. 16 GiB
hold those of 20 conversions at the default MAX_FILE_MB: a larger disk needs no larger reserve."""
RESERVE_SHARE: Final = 0.05
"""The reserve between these bounds, as a share of the disk."""


SIGNS: Final = ".installations"
"""The folder on a shelf with one file or object for each installation, named like it. Its age says when it was used."""


class Space(Struct, frozen=True, kw_only=True):
    """The state of the disk, in bytes."""

    total_bytes: int
    free_bytes: int
    set_reserve_bytes: int = 0
    """The reserve that the operator has set (DISK_RESERVE_MB); 0: the service chooses it."""

    @property
    def reserve_bytes(self) -> int:
        """Space kept free for running conversions. Below it, new conversions are refused."""
        chosen = min(max(LEAST_RESERVE_BYTES, int(RESERVE_SHARE * self.total_bytes)), MOST_RESERVE_BYTES)
        return self.set_reserve_bytes or chosen

    @property
    def is_low(self) -> bool:
        """Whether new conversions must be refused."""
        return self.free_bytes < self.reserve_bytes


class Request(StrEnum):
    """The kinds of requests to an object store."""

    PUT = "put"
    GET = "get"
    HEAD = "head"
    LIST = "list"
    DELETE = "delete"


class ShelfDown(OSError):
    """The server with the tracks does not answer, or refuses. `strerror` is for the operator, and has no secrets.

    `errno` is ENOSPC if its space is used up, and EIO otherwise.
    """


class Description(Struct, frozen=True, kw_only=True):
    """What is kept beside a track: a server that sends it to clients has no other source for these headers."""

    content_type: str
    content_disposition: str
    sha256: str
    """Hash of the whole file, as in `Track`."""


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
    """The client downloads the track from this URL, not through this service."""

    url: str


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """This process sends the track, which is on another server."""

    read: Callable[[int, int], AsyncIterator[bytes]]
    """Returns the pieces of a part: its offset and its length, in bytes. It raises ShelfDown if they do not come."""


Source = OpenFile | RemoteFile
"""Where this process takes the bytes of a track from."""
Delivery = Source | InternalRedirect | Url
"""How a track is sent."""


class Shelf(Protocol):
    """The contract of a place for finished tracks."""

    async def sign(self, installation: str) -> float | None:
        """Record on the shelf that this installation uses it.

        Returns:
            How many seconds ago another installation has done so last; None if none has.

        Raises:
            OSError
        """

    async def publish(self, source: Path, file_name: str, description: Description) -> float:
        """Move a finished file from the scratch folder to the shelf, durably. `source` no longer exists afterwards.

        Returns:
            The file's last modification, in seconds since 1970: the track's `published_at`.

        Raises:
            OSError: nothing is on the shelf under this name, or something that the janitor's sweep removes.
        """

    async def holds(self, track: Track) -> bool:
        """Return whether the track exists with the content that was published.

        Raises:
            ShelfDown: it is not known.
        """

    async def has_all(self, tracks: Sequence[Track]) -> bool:
        """Return whether every track exists with its size. Their contents are not read: `deliver` does that.

        Raises:
            ShelfDown: it is not known.
        """

    async def crc32(self, file_name: str) -> int | None:
        """Compute the CRC-32 of a track from its bytes; None if it does not exist.

        Raises:
            ShelfDown: it is not known.
        """

    async def deliver(self, track: Track, *, may_redirect: bool, may_leave: bool = False) -> Delivery | None:
        """Return how to send the track, or None if it does not exist with the content that was published.

        `may_redirect` is false if the reverse proxy must not send it. `may_leave` is false if the client must not be
        redirected to another server.

        Raises:
            ShelfDown: it is not known.
        """

    async def is_damaged(self, track: Track) -> bool:
        """Read the track, and return whether it exists and does not have the content that was published."""

    def close_file(self, file: OpenFile) -> None:
        """Close a descriptor that `deliver` has returned. Does not block."""

    def try_publishing(self, source: Path) -> None:
        """Do with a small file what `publish` does with a track, and remove it again. Blocks: called in a thread.

        Raises:
            OSError: tracks cannot be published.
        """

    async def delete(self, file_name: str) -> None:
        """Remove a track. It is no error if it does not exist. A running transfer of an open file continues.

        Raises:
            OSError
        """

    async def mark(self) -> str:
        """Return a random text that tells this shelf from others; it is made at the first call, and kept on the shelf.

        Raises:
            OSError: it can neither be read nor made.
        """

    async def names(self, *, older_than_seconds: float) -> list[str]:
        """List the files that were last changed longer ago. The janitor removes those that no record names.

        Raises:
            OSError
        """
