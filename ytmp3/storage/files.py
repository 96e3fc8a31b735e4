"""The two places of one instance's files, as the engine is handed them."""

from dataclasses import dataclass

from ytmp3.storage import Shelf
from ytmp3.storage.scratch import Scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Both are open. With a `local` shelf they must lie on one file system."""

    shelf: Shelf
    """Finished tracks, shared by all instances."""
    scratch: Scratch
    """This instance's work in progress."""
