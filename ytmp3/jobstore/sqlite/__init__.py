"""The embedded job store: one SQLite file beside the tracks, for one instance.

    store     the JobStore: reads in a thread of its own, and passes every change to the writer
      cache     recently read tickets, which are dropped when they change
      writer    one thread that commits operations in groups
        ledger    the operations, as functions of the tables
          queries   the schema and every query
      file      locks, checks, creates and opens the file
      backup    copies the file for an operator, and restores a copy

A write, for example `submit`: the coroutine puts the operation into the writer's queue and waits for a future. The
thread takes all queued operations, up to 256, runs them in one transaction, and commits, with one fsync for all of
them. Then, on the event loop, the changed ids are dropped from the cache, and after that the futures are resolved. So a
caller that has received its result always reads the new state.

A read, for example `get`: from the cache, or by one query on a second, read-only connection. In WAL mode this
connection sees the last commit and never waits for the writer.

No call of the file runs on the event loop: on a disk that hangs, operations raise StoreDown, and all else goes on.

State after a crash. SQLite replays the log when the file is next opened, so each operation is stored completely or not
at all, and every confirmed operation is stored (`synchronous=FULL`). All conversions with a holder become due at once:
the lock on the file was free, so no process can still work on them. Retries keep their delay.

Faults of the file, and how they are handled:

* The file is damaged, foreign or newer: `open` refuses it and does not change it (`file`).
* The disk is full: the operation raises StoreFull and nothing is stored. `ping` raises the same until a write that is
  larger than a submission succeeds.
* Another program holds a lock on the file: operations raise StoreDown after two seconds, and later ones much sooner,
  until the lock is released (`writer`).
* The file or its log is removed or replaced: this is checked after each commit, before its operations are confirmed
  (`writer`).
"""

from ytmp3.jobstore.sqlite.store import SqliteJobStore

__all__ = ["SqliteJobStore"]
