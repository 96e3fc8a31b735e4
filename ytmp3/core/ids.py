"""The identifiers. Each has its own type, so that the type checker finds swapped arguments.

At run time and in stored records, all of them are plain strings.
"""

import hashlib
import re
from typing import Final, NewType

JobId = NewType("JobId", str)
"""The id that `POST /extract` returns: 34 hex digits (see `JOB_ID`)."""
BatchId = NewType("BatchId", str)
"""The id that `POST /batches` returns. It has the form of a job id, and 136 random bits."""
ConversionId = NewType("ConversionId", str)
"""The id of a conversion. It has the form of a job id, but is internal and never shown to clients."""
ConversionKey = NewType("ConversionKey", str)
"""The deduplication key `youtube:<video id>:<recipe>`. Jobs with the same key share one conversion."""
VideoId = NewType("VideoId", str)
"""YouTube's 11 characters, as checked by `link.parse_video_id`."""
ClientId = NewType("ClientId", str)
"""The owner of a job: `key:<name of the API key>` or `addr:<IP address or network>`."""
InstanceId = NewType("InstanceId", str)
"""The id of one running `ytmp3 serve`. It is drawn at each start, so a restarted process is another instance. It begins
with the instance's place (`place_of`), which stays the same."""
PLACE_CHARACTERS: Final = 6
"""Number of hex digits of the place in an instance's id. Among 20 instances, two have the same with a chance of 1 in
90,000. Then a conversion that has crashed one of them is not left to the other."""
INSTANCE_CHARACTERS: Final = 16
"""Length of an instance's id. The names of tracks contain it (`core.job.track_file_name`)."""

JOB_ID: Final = re.compile(r"[0-9a-f]{34}", re.ASCII)
"""The form of a job id: two hex digits of the shard, then 128 bits from a CSPRNG. Always used with `fullmatch`."""


def parse_job_id(text: str) -> JobId | None:
    """Return `text` as a job id, or None if it does not have that form. `text` may be any text from a client."""
    return JobId(text) if JOB_ID.fullmatch(text) else None


def shard_of(key: ConversionKey | ClientId) -> str:
    """Return the shard of a key, or of a client: two hex digits, evenly distributed over 256 shards."""
    return hashlib.sha256(key.encode()).hexdigest()[:2]


def new_job_id(key: ConversionKey, chance: bytes) -> JobId:
    """Return the id of a new job for `key`.

    `chance` is 16 bytes from a CSPRNG, because the id alone may give access to the job (OWASP ASVS 11.5.1).
    """
    return JobId(shard_of(key) + chance.hex())


def new_conversion_id(key: ConversionKey, chance: bytes) -> ConversionId:
    """Return the id of a new conversion of `key`. `chance` is 16 bytes from a CSPRNG."""
    return ConversionId(shard_of(key) + chance.hex())


def parse_batch_id(text: str) -> BatchId | None:
    """Return `text` as a batch id, or None if it does not have that form. `text` may be any text from a client."""
    return BatchId(text) if JOB_ID.fullmatch(text) else None


def new_batch_id(chance: bytes) -> BatchId:
    """Return the id of a new batch. `chance` is 17 bytes from a CSPRNG, because the id may give access to the batch."""
    return BatchId(chance.hex())


def item_job_id(batch_id: BatchId, key: ConversionKey) -> JobId:
    """Return the id of the job that a batch has for `key`.

    The id is derived and not drawn. So an instance that continues a batch after a crash submits the same job again
    instead of a second one, and equal links of a batch share one job. Who does not know the batch's id cannot guess it.
    """
    return JobId(shard_of(key) + hashlib.sha256(f"batch item\n{batch_id}\n{key}".encode()).hexdigest()[:32])


def new_instance_id(place: str, chance: bytes) -> InstanceId:
    """Return the id of an instance that starts. `place` names its machine and its address; `chance` is random."""
    digest = hashlib.sha256(place.encode()).hexdigest()[:PLACE_CHARACTERS]
    return InstanceId((digest + chance.hex())[:INSTANCE_CHARACTERS])


def place_of(instance: InstanceId) -> str:
    """Return where an instance runs. An instance that crashes and is restarted has the same place again."""
    return instance[:PLACE_CHARACTERS]
