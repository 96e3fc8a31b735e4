"""The embedded job store: one SQLite file beside the tracks, for one instance.

    store     the JobStore: reads on the event loop's thread, hands every change to the writer
      cache     tickets read lately, dropped by the writer as soon as they change
      writer    one thread that commits operations in groups
        ledger    the operations, as functions of the tables
          queries   the schema and every query
      file      locks, checks, creates and opens the file
      backup    copies the file for an operator, and puts a copy in its place

A write, for example `submit`: the coroutine puts the operation into the writer's queue and waits for a future. The
thread takes all that is queued, up to 256 operations, runs them in one transaction, and commits, which takes one fsync
for all of them. Then, on the event loop, the ids that have changed are dropped from the cache, and only after that the
futures are resolved. So whoever was answered reads the new state.

A read, for example `get`: from the cache, or by one query on a second, read-only connection. In WAL mode it sees the
last commit and never waits for the writer.

What a crash leaves. SQLite replays the log when the file is next opened, so every operation has happened or has not;
what was answered has happened (`synchronous=FULL`). All conversions that were held are due at once, because the lock on
the file was free: nobody can still be at work on them. Retries keep their time.

What can go wrong with the file, and what is done about it:

* It is damaged, foreign or newer: `open` refuses it and does not touch it (`file`).
* The disk is full: the operation raises StoreFull and nothing of it is stored. `ping` raises the same until a write
  that is larger than a submission succeeds.
* Another program holds a lock on it: operations raise StoreDown after two seconds, and all that follow much sooner,
  until it is free (`writer`).
* It or its log is removed or replaced: noticed after each commit, before anybody is answered (`writer`).
"""

from ytmp3.jobstore.sqlite.store import SqliteJobStore

__all__ = ["SqliteJobStore"]
