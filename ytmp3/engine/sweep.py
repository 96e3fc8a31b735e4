"""Removes track files that no record names. A crash leaves them between publishing and `finish`, or during `expire`.

The rule: a file is removed only if it certainly belongs to this installation, and if no record will name it.

* To two installations with one folder of tracks, or with one bucket and prefix, the tracks of each other are files
  without a record. So each of them leaves a sign there with its name, which is kept in its job store. None of them
  removes a file for a week after the last sign of the other one. A job store that was replaced has another name: then
  files without a record stay for a week, too.
* An instance whose shelf is not that of the other instances on its store removes nothing: the shelf may belong to
  another installation.
* A file is removed only if no record names it in two sweeps. After an outage of the store that was longer than the age
  from which files are swept, an instance may be about to record a track that it has published before.
"""

import logging
import secrets
from typing import Final

from ytmp3.engine.health import Health
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore import SHARED_VALUE_SECONDS, JobStore, SharedValues
from ytmp3.storage import Shelf

log = logging.getLogger(__name__)

VALUE_NAME: Final = "installation"
"""The name of the shared value with the name of the installation."""
NAME_BYTES: Final = 16
"""Random bytes of that name: enough that no two installations have the same."""
FORGOTTEN_SECONDS: Final = SHARED_VALUE_SECONDS
"""Age, in seconds, from which the sign of another installation does not count. From then on, its store may have
forgotten its name."""
ACTIVE_SECONDS: Final = 1800.0
"""Age, in seconds, up to which the sign of another installation means that it is running. It leaves one in each sweep,
every 600 s."""
OTHER_INSTALLATION: Final = (
    "another installation, with another job store or REDIS_PREFIX, uses the same tracks, so files without a record are "
    "not removed: give each installation its own DATA_DIR, or its own prefix in STORAGE_URL (if the job store was "
    "replaced on purpose, this message ends within half an hour)"
)
"""The text in `/health` while another installation is running."""


class Sweep:
    """The search for files without a record."""

    def __init__(self, settings: EngineSettings, *, store: JobStore, shelf: Shelf, health: Health) -> None:
        self._stray_file_seconds = settings.stray_file_seconds
        self._store = store
        self._shelf = shelf
        self._health = health
        self._strays: frozenset[str] = frozenset()
        """The files that the last sweep found without a record."""

    async def sweep(self) -> int:
        """Remove files that were without a record in the last sweep already. Returns their number.

        The shelf is listed before the records are looked up, so a track that is published in between is not in the
        list.

        Raises:
            StoreError, OSError
        """
        if not await self._is_alone() or self._health.shelf_error is not None:
            self._strays = frozenset()
            return 0
        names = await self._shelf.names(older_than_seconds=self._stray_file_seconds)
        before, self._strays = self._strays, frozenset(names) - await self._store.known_files(names)
        removed = self._strays & before
        for name in removed:
            await self._shelf.delete(name)
        if removed:
            log.warning("track files without a record removed", extra={"files": len(removed)})
        return len(removed)

    async def _is_alone(self) -> bool:
        """Leave a sign, and return whether no other installation has left one within FORGOTTEN_SECONDS."""
        age = await self._shelf.sign(await _name_of_installation(self._store.values))
        is_active = age is not None and age < ACTIVE_SECONDS
        before, self._health.other_installation = self._health.other_installation, None
        if is_active:
            self._health.other_installation = OTHER_INSTALLATION
        if before != self._health.other_installation:
            level = logging.ERROR if is_active else logging.INFO
            detail = self._health.other_installation or "no other one is running"
            log.log(level, "installation", extra={"ok": not is_active, "detail": detail})
        return age is None or age > FORGOTTEN_SECONDS


async def _name_of_installation(values: SharedValues) -> str:
    """Return the name, which is drawn at the first call. Each call writes it, because the store forgets old values."""
    while True:
        value = await values.read(VALUE_NAME)
        name = value.data or secrets.token_hex(NAME_BYTES).encode("ascii")
        if await values.replace(VALUE_NAME, value.data, name):
            return name.decode("ascii")
