"""The shelf and the scratch folder of one instance, as one argument for the engine."""

from dataclasses import dataclass

from ytmp3.storage import Shelf
from ytmp3.storage.scratch import Scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """An open shelf and an open scratch folder. A `local` shelf must be on the file system of the scratch folder."""

    shelf: Shelf
    """Finished tracks, shared by all instances."""
    scratch: Scratch
    """This instance's work in progress."""
