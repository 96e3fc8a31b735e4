"""Reads API_KEYS_FILE, and checks who may change it: whoever can write it can give themselves a key."""

import logging
import os
import stat
from pathlib import Path

from ytmp3.core.client import ApiKey
from ytmp3.http.keys import KeyFileError, parse_keys

log = logging.getLogger(__name__)


def read_keys_file(path: Path) -> tuple[ApiKey, ...]:
    """Return the keys of the file. Called at the start, and again for each SIGHUP.

    A file that its group may write is accepted with a warning, because some systems make all files like that. Who may
    read it does not matter: it has only hashes of long random keys.

    Raises:
        KeyFileError: it cannot be read, a line of it is wrong, or every user may write it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError((error.strerror if isinstance(error, OSError) else None) or str(error)) from error
    if mode & stat.S_IWOTH:
        raise KeyFileError(f"every user may write it, and so make keys: chmod 600 {path}")
    if mode & stat.S_IWGRP:
        log.warning("the group of the keys file may write it", extra={"file": str(path), "remedy": "chmod 600"})
    return parse_keys(text)
