"""The embedded job store: one SQLite file beside the tracks."""

from ytmp3.jobstore.sqlite.store import SqliteJobStore

__all__ = ["SqliteJobStore"]
