"""The model of the capacity of an installation: how much of each part a number of conversions an hour needs. Pure.

`scripts.bench.capacity` measures the two costs of a conversion on the machine at hand, and prints the answer.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct

SECONDS_PER_HOUR: Final = 3600.0
COPY_CPU_PER_MINUTE: Final = 0.03
"""CPU seconds for each minute of sound that is copied from YouTube's M4A or Opus: a song of four minutes takes 0.3 to
0.4 in all."""
PLAYER_CPU_SECONDS: Final = 0.03
"""CPU seconds for YouTube's JavaScript challenge, which the solver of an instance has parsed before."""
SOLVER_MB: Final = 500.0
"""Memory for YouTube's JavaScript: two warm runtimes of 100 MB, and 300 MB while a new player script is parsed."""
SOURCE_MB_PER_MINUTE: Final = 1.0
"""Size of the download from YouTube: its Opus has about 128 kbit/s."""
VIDEOS_PER_IDENTITY: Final = 240.0
"""Default budget of one identity: videos an hour. YouTube allows about 300, according to the yt-dlp wiki."""
MOST_IDENTITIES: Final = 1000
"""Most lines of IDENTITIES_FILE."""
UTILISATION: Final = 0.7
"""The share of its cores that an instance uses. Above it, queues form in every burst."""
CORES_PER_INSTANCE: Final = 2
DOWNLOAD_CPU_PER_GB: Final = 0.43
"""CPU seconds of an instance for sending one GB from its disk."""
S3_PROXY_FACTOR: Final = 2.4
"""A download through an instance from a bucket costs 2.1 to 2.4 times the CPU time of one from the disk."""
REDIS_KB_PER_CONVERSION: Final = 2.3
REDIS_KB_PER_JOB: Final = 0.3
"""Memory in kB of a finished conversion with its first job, and of each further job on it. Measured with Valkey 9.1."""
REDIS_MILLISECONDS_PER_JOB: Final = 5.8
"""CPU milliseconds of the one thread of Redis for a job, from POST to completed, without polls. Measured with 50
instances, 500 identities and conversions of 8 s, whose progress is written every second (`python -m scripts.fleet
--virtual`): 6.0 with five polls. Other work shared the cores, so it is a high estimate. Without budgets of the
identities it is less: in one pair of runs 3.7 instead of 6.1."""
REDIS_MILLISECONDS_PER_POLL: Final = 0.05
"""Assumed: polls were never measured alone."""
REDIS_SHARE_PER_INSTANCE: Final = 0.0007
"""The share of a Redis core that an idle instance needs: it asks every second what is due in each of 256 shards.
Measured with 50 instances: 0.0005, 0.0005 and 0.0007."""
REDIS_NODE_SHARE: Final = 0.6
"""Assumed: the share of its one core that a Redis node may use, so that a burst or a slow fsync delays no request."""
REDIS_NODE_GB: Final = 8.0
"""Assumed: memory of records on one node. With more, copying it to a replica takes minutes."""
S3_REQUESTS_PER_TRACK: Final = 2.0
"""A put, and one get by another instance, which verifies the track. Expiry adds a delete."""
CHECKS_PER_HOUR: Final = 3 * 120.0
"""Requests of one instance for its check of the bucket: a put, a get and a delete every 30 s."""


class Format(StrEnum):
    """How a track is made."""

    MP3 = "mp3"
    COPY = "copy"


MB_PER_MINUTE: Final[Mapping[Format, float]] = {Format.MP3: 192 / 8 * 60 / 1000, Format.COPY: 128 / 8 * 60 / 1000}


class Storage(StrEnum):
    """Where the tracks are, and who sends them."""

    DISK = "disk"
    S3_PROXY = "s3-proxy"
    S3_REDIRECT = "s3-redirect"


class Costs(Struct, frozen=True, kw_only=True):
    """What was measured on one machine: CPU seconds and memory of the whole process tree of an instance."""

    fixed: float
    """CPU seconds of a conversion, whatever its length."""
    per_minute: float
    """CPU seconds for each minute of sound that is encoded as MP3."""
    idle_mb: float
    peak_mb: float


MEASURED: Final = Costs(fixed=0.3, per_minute=0.57, idle_mb=81.0, peak_mb=350.0)
"""The costs on two cores of a cloud machine in 2026."""


class Demand(Struct, frozen=True, kw_only=True):
    """What is asked of an installation."""

    per_hour: float
    """Conversions."""
    minutes: float = 4.0
    """Of each."""
    retention_hours: float = 24.0
    copied: float = 0.0
    """The share of the conversions that copy YouTube's sound (M4A, Opus) instead of encoding it."""
    jobs_per_conversion: float = 1.0
    """Jobs that share one conversion, the first one included."""
    polls_per_job: float = 5.0
    downloads_per_job: float = 1.0
    storage: Storage = Storage.DISK


class Plan(Struct, frozen=True, kw_only=True):
    """How much of each part the demand needs."""

    cpu_seconds: float
    """Of a conversion, its downloads included."""
    cores: float
    """At UTILISATION."""
    instances: int
    instance_gb: float
    """Memory of one instance at worst."""
    identities: int
    track_gb: float
    """All tracks at the end of the retention."""
    from_youtube: float
    """Mbit/s."""
    to_clients: float
    """Mbit/s that the instances or nginx send; 0 if the object store does."""
    redis_gb: float
    redis_share: float
    """The share of one core of Redis."""
    redis_nodes: int
    s3_requests: float
    """A second; 0 without a bucket."""
    s3_mbit: float
    """Mbit/s into and out of the bucket."""


def conversion_seconds(costs: Costs, minutes: float, *, copied: float = 0.0) -> float:
    """Return the CPU seconds of a conversion; `copied` is the share of conversions that copy the sound."""
    per_minute = (1.0 - copied) * costs.per_minute + copied * COPY_CPU_PER_MINUTE
    return costs.fixed + PLAYER_CPU_SECONDS + per_minute * minutes


def track_mb(demand: Demand) -> float:
    """Return the size of the mean track."""
    of_minute = (1.0 - demand.copied) * MB_PER_MINUTE[Format.MP3] + demand.copied * MB_PER_MINUTE[Format.COPY]
    return demand.minutes * of_minute


def download_seconds(demand: Demand) -> float:
    """Return the CPU seconds of the instances for all downloads of one conversion."""
    factors = {Storage.DISK: 1.0, Storage.S3_PROXY: S3_PROXY_FACTOR, Storage.S3_REDIRECT: 0.0}
    gigabytes = demand.jobs_per_conversion * demand.downloads_per_job * track_mb(demand) / 1000
    return factors[demand.storage] * DOWNLOAD_CPU_PER_GB * gigabytes


def redis_share(demand: Demand, instances: int) -> float:
    """Return the share of one core of Redis."""
    jobs = demand.per_hour / SECONDS_PER_HOUR * demand.jobs_per_conversion
    of_job = REDIS_MILLISECONDS_PER_JOB + demand.polls_per_job * REDIS_MILLISECONDS_PER_POLL
    return instances * REDIS_SHARE_PER_INSTANCE + jobs * of_job / 1000


def plan(costs: Costs, demand: Demand) -> Plan:
    """Return what the demand needs."""
    cpu = conversion_seconds(costs, demand.minutes, copied=demand.copied) + download_seconds(demand)
    cores = demand.per_hour * cpu / SECONDS_PER_HOUR / UTILISATION
    instances = max(1, math.ceil(cores / CORES_PER_INSTANCE))
    kept = demand.per_hour * demand.retention_hours
    kilobytes = REDIS_KB_PER_CONVERSION + (demand.jobs_per_conversion - 1.0) * REDIS_KB_PER_JOB
    redis_gb = kept * kilobytes / 1e6
    share = redis_share(demand, instances)
    sent_mbit = _mbit(demand.per_hour * demand.jobs_per_conversion * demand.downloads_per_job * track_mb(demand))
    stored_mbit = _mbit(demand.per_hour * track_mb(demand))
    is_bucket = demand.storage is not Storage.DISK
    gets = demand.jobs_per_conversion * demand.downloads_per_job
    s3_requests = demand.per_hour * (S3_REQUESTS_PER_TRACK + 1.0 + gets) + instances * CHECKS_PER_HOUR
    return Plan(
        cpu_seconds=cpu,
        cores=cores,
        instances=instances,
        instance_gb=(costs.peak_mb + SOLVER_MB) / 1000,
        identities=math.ceil(demand.per_hour / VIDEOS_PER_IDENTITY),
        track_gb=kept * track_mb(demand) / 1000,
        from_youtube=_mbit(demand.per_hour * demand.minutes * SOURCE_MB_PER_MINUTE),
        to_clients=0.0 if demand.storage is Storage.S3_REDIRECT else sent_mbit,
        redis_gb=redis_gb,
        redis_share=share,
        redis_nodes=max(1, math.ceil(share / REDIS_NODE_SHARE), math.ceil(redis_gb / REDIS_NODE_GB)),
        s3_requests=s3_requests / SECONDS_PER_HOUR if is_bucket else 0.0,
        # Each track is stored once, read once to verify it, and read for each download.
        s3_mbit=2.0 * stored_mbit + sent_mbit if is_bucket else 0.0,
    )


def _mbit(megabytes_per_hour: float) -> float:
    return megabytes_per_hour * 8 / SECONDS_PER_HOUR


def _size(gigabytes: float) -> str:
    return f"{gigabytes * 1000:.0f} MB" if gigabytes < 1.0 else f"{gigabytes:,.0f} GB"


def answer(costs: Costs, demand: Demand) -> str:
    """Return the plan as Markdown."""
    needed = plan(costs, demand)
    identities = f"{needed.identities} of {VIDEOS_PER_IDENTITY:g} videos an hour"
    if needed.identities > MOST_IDENTITIES:
        identities += f" (one installation takes {MOST_IDENTITIES})"
    rows = {
        "CPU of a conversion": f"{needed.cpu_seconds:.2f} s",
        "cores": f"{needed.cores:.1f} at {UTILISATION:.0%} use",
        f"instances of {CORES_PER_INSTANCE} cores": f"{needed.instances}",
        "memory of an instance": f"{needed.instance_gb:.1f} GB at worst, {costs.idle_mb:.0f} MB idle",
        "identities": identities,
        "tracks": _size(needed.track_gb),
        "download from YouTube": f"{needed.from_youtube:,.1f} Mbit/s",
        "download by clients": f"{needed.to_clients:,.1f} Mbit/s",
        "Redis memory": _size(needed.redis_gb),
        "Redis CPU": f"{needed.redis_share:.1%} of a core",
        "Redis nodes": f"{needed.redis_nodes}",
        "requests to the bucket": f"{needed.s3_requests:,.1f} a second",
        "traffic of the bucket": f"{needed.s3_mbit:,.1f} Mbit/s",
    }
    head = (
        f"{demand.per_hour:,g} conversions an hour of {demand.minutes:g} minutes each, {demand.copied:.0%} of them"
        f" copied, kept for {demand.retention_hours:g} hours ({demand.storage}):\n\n| what | how much |\n|---|---|\n"
    )
    return head + "".join(f"| {name} | {value} |\n" for name, value in rows.items())
