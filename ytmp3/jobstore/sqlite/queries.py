"""The schema of the store's file, and every query on it by name.

The columns beside `record` repeat the values that queries search by; `ledger` writes both in one statement. Two columns
have historical names: `serving` means that the conversion is the current one of its key, and `riders` counts its active
jobs, which are those that are not cancelled.

Why records are JSON and not columns: a new field needs no change of the schema, and a field that a newer version has
written survives a change by this one (`ledger._Row.unknown`). Only what a query searches or sorts by is a column.

Why the tables are STRICT: SQLite would otherwise store a value of any type in any column, and the fault would be seen
when the value is read, far from its cause.

Why most indexes are partial (`WHERE ... IS NOT NULL`): ended conversions stay for the whole retention, and are by far
the most. An index of live rows only stays small, so the search for due conversions, which runs every second, takes the
same time with a hundred thousand ended records as with none.
"""

from typing import Final

from ytmp3.core.job import State
from ytmp3.jobstore.sqlite.migrations import MIGRATIONS

APPLICATION_ID: Final = 0x79746D33
"""`ytm3` in ASCII: the application id in the header of the file (offset 68: sqlite.org/fileformat.html), by which our
files are recognised."""
SCHEMA_VERSION: Final = max(MIGRATIONS)
"""The version in the header of the file (`user_version`). It is raised by a change after which an older program cannot
read the file or must not write to it. A new field in a record is no such change. In version 2, conversions no longer
have the field `quality`: the recipe is the last part of the key. In version 3, a job may have failed with a code that
older programs do not know. `migrations` has the later changes."""

TABLES: Final = frozenset({"conversions", "jobs", "tallies"})

SCHEMA: Final = """
-- The tables of version 3; `migrations` changes and adds to them.
CREATE TABLE conversions (
    serial INTEGER PRIMARY KEY,    -- grows in order of creation
    conversion_id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    serving INTEGER NOT NULL,      -- 1: new jobs of this key join it
    riders INTEGER NOT NULL,       -- its jobs that are not cancelled
    jobs INTEGER NOT NULL,         -- all its jobs
    due_at REAL,                   -- NULL once it has ended
    expires_at REAL,               -- NULL until then
    record BLOB NOT NULL           -- JSON of core.job.Conversion
) STRICT;
CREATE UNIQUE INDEX conversions_serving ON conversions (key) WHERE serving = 1;
CREATE INDEX conversions_due ON conversions (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX conversions_expiry ON conversions (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,
    serial INTEGER NOT NULL,       -- of its conversion
    record BLOB NOT NULL           -- JSON of core.job.Job
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_conversion ON jobs (serial);
CREATE TABLE tallies (
    state TEXT PRIMARY KEY,        -- of the conversion; `cancelled` for a cancelled job on whatever conversion
    jobs INTEGER NOT NULL          -- how many jobs there are; kept by every change, so that counting costs nothing
) STRICT, WITHOUT ROWID;
"""
_ZERO_TALLIES: Final = ", ".join(f"('{state}', 0)" for state in State)
INSERT_TALLIES: Final = f"INSERT INTO tallies VALUES {_ZERO_TALLIES}"  # noqa: S608  all of it is constant

SELECT_TICKET: Final = """
    SELECT jobs.record, conversions.record FROM jobs JOIN conversions USING (serial) WHERE jobs.job_id = ?
"""
SELECT_CONVERSION_RECORD: Final = "SELECT record FROM conversions WHERE conversion_id = ?"
SELECT_TALLIES: Final = "SELECT state, jobs FROM tallies"
SELECT_VALUE: Final = "SELECT data FROM shared_values WHERE name = ?"
REPLACE_VALUE: Final = "INSERT OR REPLACE INTO shared_values VALUES (?, ?)"

# These five return the columns of `ledger._Row`.
# Two of them are limited and sorted: what has been due or expired for the longest time is first, so nothing is left
# behind however many rows there are. Rows with the same due time, as after a restart, follow in order of creation.
SELECT_CONVERSION: Final = """
    SELECT serial, serving, riders, jobs, record FROM conversions WHERE conversion_id = ?
"""
SELECT_CURRENT: Final = """
    SELECT serial, serving, riders, jobs, record FROM conversions WHERE key = ? AND serving = 1
"""
SELECT_LIVE: Final = """
    SELECT serial, serving, riders, jobs, record FROM conversions WHERE due_at IS NOT NULL
"""
SELECT_DUE: Final = """
    SELECT serial, serving, riders, jobs, record FROM conversions WHERE due_at <= ? ORDER BY due_at, serial LIMIT ?
"""
SELECT_EXPIRED: Final = """
    SELECT serial, serving, riders, jobs, record FROM conversions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?
"""

INSERT_CONVERSION: Final = """
    INSERT INTO conversions (conversion_id, key, serving, riders, jobs, due_at, record)
    VALUES (?, ?, 1, 1, 1, ?, ?) RETURNING serial
"""
UPDATE_CONVERSION: Final = """
    UPDATE conversions SET serving = ?, riders = ?, jobs = ?, due_at = ?, expires_at = ?, record = ? WHERE serial = ?
"""
UPDATE_EXPIRY: Final = "UPDATE conversions SET expires_at = ?, record = ? WHERE conversion_id = ?"
# Run before a new current conversion is inserted: the unique index refuses a second current one of the same key, even
# if the code around it has a defect.
REPLACE_CURRENT: Final = "UPDATE conversions SET serving = 0 WHERE key = ? AND serving = 1"
DELETE_CONVERSION: Final = "DELETE FROM conversions WHERE serial = ?"

INSERT_JOB: Final = "INSERT INTO jobs (job_id, serial, record, client, created_at) VALUES (?, ?, ?, ?, ?)"
UPDATE_JOB: Final = "UPDATE jobs SET record = ? WHERE job_id = ?"
# The limit bounds the transaction. The deleted records are returned, because the counts of jobs by state must be
# reduced by exactly the jobs that were removed.
DELETE_SOME_JOBS: Final = """
    DELETE FROM jobs WHERE job_id IN (SELECT job_id FROM jobs WHERE serial = ? LIMIT ?) RETURNING job_id, record
"""
ADD_TO_TALLY: Final = "UPDATE tallies SET jobs = jobs + ? WHERE state = ?"

WRITE_PROBE: Final = "INSERT OR REPLACE INTO jobs (job_id, serial, record) VALUES ('', 0, zeroblob(?))"
"""The probe has the empty id, which no job has."""
REMOVE_PROBE: Final = "DELETE FROM jobs WHERE job_id = ''"

HOOK_JOB: Final = "INSERT INTO hooked VALUES (?, ?)"
UNHOOK_JOB: Final = "DELETE FROM hooked WHERE job_id = ?"
# One statement decides and inserts: no row if no job of the conversion has a webhook, and one row however many have.
ANNOUNCE_CONVERSION: Final = "INSERT OR IGNORE INTO announced SELECT serial FROM hooked WHERE serial = ? LIMIT 1"
# Both begin with the oldest conversions and look at few, so they take the same time for ten rows and for ten thousand.
SELECT_ANNOUNCED_JOBS: Final = """
    SELECT job_id FROM announced CROSS JOIN hooked USING (serial) ORDER BY announced.serial LIMIT ?
"""
DELETE_ANNOUNCED: Final = """
    DELETE FROM announced WHERE serial IN (SELECT serial FROM announced ORDER BY serial LIMIT ?)
        AND NOT EXISTS (SELECT 1 FROM hooked WHERE hooked.serial = announced.serial)
"""
SELECT_HOOKED_JOB: Final = """
    SELECT jobs.record, conversions.record
    FROM hooked JOIN jobs USING (job_id) JOIN conversions ON conversions.serial = hooked.serial
    WHERE hooked.job_id = ?
"""
# OR IGNORE, because the id of a delivery follows from its subject: to make the deliveries of a job a second time must
# not reset one that was sent already.
INSERT_DELIVERY: Final = "INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?, ?)"
UPDATE_DELIVERY: Final = "UPDATE deliveries SET due_at = ?, record = ? WHERE delivery_id = ?"
DELETE_DELIVERIES: Final = "DELETE FROM deliveries WHERE subject_id = ?"
SELECT_DELIVERY: Final = "SELECT record FROM deliveries WHERE delivery_id = ?"
SELECT_DELIVERIES: Final = "SELECT record FROM deliveries WHERE subject_id = ?"
# After the system clock was set back, a due time may be hours ahead of every wait that the schedule has.
LIMIT_DUE_DELIVERIES: Final = "UPDATE deliveries SET due_at = ? WHERE due_at > ?"
SELECT_DUE_DELIVERIES: Final = """
    SELECT record FROM deliveries WHERE due_at <= ? ORDER BY due_at LIMIT ?
"""
# These belong to `clients`. A page begins after the last job of the page before, and not at an offset: new jobs at the
# beginning of the list would shift an offset, so a client would see jobs twice.
SELECT_JOBS_OF: Final = """
    SELECT jobs.record, conversions.record FROM jobs JOIN conversions USING (serial)
    WHERE jobs.client = ? AND (jobs.created_at, jobs.job_id) < (?, ?)
    ORDER BY jobs.created_at DESC, jobs.job_id DESC LIMIT ?
"""
DELETE_RESERVATIONS: Final = "DELETE FROM reservations WHERE ends_at < ?"
DELETE_RESERVATION: Final = "DELETE FROM reservations WHERE name = ? AND resource_id = ?"
# OR IGNORE: of several requests with one idempotency key, the first one reserves its id, and the others read that.
INSERT_RESERVATION: Final = "INSERT OR IGNORE INTO reservations VALUES (?, ?, ?, ?, ?)"
SELECT_RESERVATION: Final = "SELECT resource_id, fingerprint, reserved_at FROM reservations WHERE name = ?"
DELETE_FEED: Final = "DELETE FROM feeds WHERE client = ?"
INSERT_FEED: Final = "INSERT INTO feeds VALUES (?, ?)"
SELECT_FEED: Final = "SELECT client FROM feeds WHERE digest = ?"
# Items are a table of their own, because the record of a batch is written at each change of its marks, and the items,
# which may be 1,000, are not.
INSERT_BATCH: Final = "INSERT INTO batches VALUES (?, ?, ?, NULL, ?)"
INSERT_BATCH_ITEMS: Final = "INSERT INTO batch_items VALUES (?, ?)"
UPDATE_BATCH_ITEMS: Final = "UPDATE batch_items SET record = ? WHERE batch_id = ?"
UPDATE_BATCH: Final = "UPDATE batches SET due_at = ?, expires_at = ?, record = ? WHERE batch_id = ?"
SELECT_BATCH: Final = "SELECT record FROM batches WHERE batch_id = ?"
SELECT_BATCH_ITEMS: Final = "SELECT record FROM batch_items WHERE batch_id = ?"
SELECT_HELD_BATCHES: Final = "SELECT record FROM batches WHERE due_at IS NOT NULL"
SELECT_DUE_BATCHES: Final = "SELECT record FROM batches WHERE due_at <= ? ORDER BY due_at LIMIT ?"
COUNT_BATCHES: Final = "SELECT count(*) FROM batches WHERE due_at IS NOT NULL"
COUNT_BATCHES_OF_CLIENT: Final = "SELECT count(*) FROM batches WHERE client = ? AND due_at IS NOT NULL"
DELETE_EXPIRED_BATCHES: Final = """
    DELETE FROM batches WHERE batch_id IN
    (SELECT batch_id FROM batches WHERE expires_at <= ? ORDER BY expires_at LIMIT ?) RETURNING batch_id
"""
DELETE_BATCH_ITEMS: Final = "DELETE FROM batch_items WHERE batch_id = ?"
