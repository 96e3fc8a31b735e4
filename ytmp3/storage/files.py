"""The shelf and the scratch folder of one instance, as one argument for the engine."""

import errno
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from ytmp3.storage import Shelf, Space
from ytmp3.storage.scratch import Scratch
from ytmp3.threads import Threads

CHECKERS: Final = 1
"""Threads for the check of the disk. One check runs at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """An open shelf and an open scratch folder. A `local` shelf must be on the file system of the scratch folder."""

    shelf: Shelf
    """Finished tracks, shared by all instances."""
    scratch: Scratch
    """This instance's work in progress."""
    checkers: Threads = field(default_factory=lambda: Threads("disk-check", CHECKERS))

    async def check(self) -> Space:
        """Do what a conversion does with the disk, and return the free space. On a disk that hangs, this does not end.

        A full disk is no error. If no file can be made although bytes are free, no space is returned as free: the disk
        has no inodes left, or a quota is used up.

        Raises:
            OSError: a conversion would fail.
        """
        return await self.checkers.run(self._check)

    def _check(self) -> Space:
        try:
            self.shelf.try_publishing(self.scratch.write_probe())
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            return replace(self.scratch.space(), free_bytes=0)
        return self.scratch.space()
