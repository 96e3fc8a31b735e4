"""The changes of the schema, one for each version of the file after 3. A new file gets all of them, too.

`file` makes those that an older file lacks in one transaction, when it is opened. There is no way back: an older
program refuses the file (`queries.SCHEMA_VERSION`).

A change adds tables, columns and indexes, and fills new columns from the records; it rewrites no record. A crash in the
middle of it leaves the file in its old version, because the version number in the header is a part of the transaction.

A released change is never edited: files that were made by it exist, and `file` refuses a file whose tables differ from
those of its version.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_OUTBOX: Final = """
CREATE TABLE hooked (
    job_id TEXT PRIMARY KEY,       -- a job whose end is to be reported, until its deliveries are made
    serial INTEGER NOT NULL        -- of its conversion
) STRICT, WITHOUT ROWID;
CREATE INDEX hooked_conversion ON hooked (serial);
CREATE TABLE announced (
    serial INTEGER PRIMARY KEY     -- of an ended conversion with rows in `hooked`
) STRICT;
CREATE TABLE deliveries (
    delivery_id TEXT PRIMARY KEY,
    subject_id TEXT NOT NULL,      -- the job or the batch
    due_at REAL,                   -- NULL unless it is pending
    record BLOB NOT NULL           -- JSON of core.webhook.Delivery
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_subject ON deliveries (subject_id);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE due_at IS NOT NULL;
"""
"""Ended conversions are reported by the outbox."""
_CLIENTS: Final = """
ALTER TABLE jobs ADD COLUMN client TEXT;           -- its client, if the client's list has it
ALTER TABLE jobs ADD COLUMN created_at REAL;       -- NULL where client is
UPDATE jobs SET client = json_extract(CAST(record AS TEXT), '$.client'),
                created_at = json_extract(CAST(record AS TEXT), '$.created_at')
    WHERE json_extract(CAST(record AS TEXT), '$.client') LIKE 'key:%';
CREATE INDEX jobs_client ON jobs (client, created_at, job_id) WHERE client IS NOT NULL;
CREATE TABLE reservations (
    name TEXT PRIMARY KEY,             -- hash of a client and its idempotency key
    resource_id TEXT NOT NULL,         -- what the first request with the key makes
    fingerprint TEXT NOT NULL,         -- hash of that request
    reserved_at REAL NOT NULL,
    ends_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reservations_end ON reservations (ends_at);
CREATE TABLE feeds (
    client TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE        -- of its feed token
) STRICT, WITHOUT ROWID;
"""
"""Lists of the jobs of an API key, idempotency keys, and feeds."""

_BATCHES: Final = """
CREATE TABLE batches (
    batch_id TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    due_at REAL,                   -- NULL once it has ended
    expires_at REAL,               -- NULL until then
    record BLOB NOT NULL           -- JSON of core.batch.Batch
) STRICT, WITHOUT ROWID;
CREATE INDEX batches_due ON batches (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX batches_client ON batches (client) WHERE due_at IS NOT NULL;
CREATE INDEX batches_expiry ON batches (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE batch_items (
    batch_id TEXT PRIMARY KEY,
    record BLOB NOT NULL           -- JSON of a list of core.batch.Item, which is never changed
) STRICT;
"""
_VALUES: Final = """
CREATE TABLE shared_values (
    name TEXT PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;
"""
"""Values such as the budgets of identities (`jobstore.SharedValues`)."""
MIGRATIONS: Final[Mapping[int, str]] = MappingProxyType({5: _OUTBOX, 6: _CLIENTS, 7: _BATCHES, 8: _VALUES})
"""The statements that bring a file to each version from the one before."""
