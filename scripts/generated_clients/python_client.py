"""Uses the client that openapi-python-client generates: python python_client.py SERVER LINK.

It runs in an environment of its own, with the generated package `ytmp3_client`.
"""
# mypy: ignore-errors

import hashlib
import sys
import time

from ytmp3_client import AuthenticatedClient, Client
from ytmp3_client.api.batches import batch, batch_items, create_batch
from ytmp3_client.api.jobs import cancel, download, extract, status
from ytmp3_client.api.service import health, live, program, stats
from ytmp3_client.models import (
    BatchRequest,
    BatchView,
    ExtractRequest,
    HealthView,
    ItemsView,
    JobView,
    LiveView,
    Problem,
    Quality,
    StatsView,
)

LAST_SECONDS = 300.0


def converted(client: Client, link: str) -> JobView:
    job = extract.sync(client=client, body=ExtractRequest(url=link, quality=Quality("128k")))
    deadline = time.monotonic() + LAST_SECONDS
    while job.status.value in {"pending", "processing"} and time.monotonic() < deadline:
        time.sleep(0.2)
        job = status.sync(job_id=job.job_id, client=client)
        assert isinstance(job, JobView), job
    assert job.status.value == "completed", job
    return job


def main(server: str, link: str) -> None:
    client = Client(base_url=server)
    assert isinstance(live.sync(client=client), LiveView)
    now = health.sync(client=client)
    assert isinstance(now, HealthView)
    assert now.status.value == "ok", now
    assert now.checks["store"].ok is True
    job = converted(client, link)
    assert job.quality.value == "128k"
    track = download.sync(job_id=job.job_id, client=client)
    content = track.payload.read()
    assert hashlib.sha256(content).hexdigest() == job.file.sha256
    part = download.sync_detailed(job_id=job.job_id, client=client, range_="bytes=0-9")
    assert part.status_code == 206
    assert part.parsed.payload.read() == content[:10]
    numbers = stats.sync(client=client)
    assert isinstance(numbers, StatsView)
    assert numbers.jobs.completed >= 1
    assert numbers.since_start.conversions.done >= 1
    unknown = status.sync(job_id="0" * 34, client=AuthenticatedClient(base_url=server, token="none"))
    assert isinstance(unknown, Problem)
    assert (unknown.status, unknown.code) == (404, "job_unknown")
    made = create_batch.sync(client=client, body=BatchRequest(urls=[link, "https://example.org/"]))
    assert isinstance(made, BatchView)
    items = batch_items.sync(batch_id=made.batch_id, client=client)
    assert isinstance(items, ItemsView)
    assert items.items[1].error.code == "unsupported_url"
    assert batch.sync(batch_id=made.batch_id, client=client).counts.total == 2
    assert program.sync(client=client).payload.read(2) == b"#!"
    assert cancel.sync(job_id=job.job_id, client=client).job_id == job.job_id
    print(f"{len(content)} bytes of {job.metadata.title!r}")


main(*sys.argv[1:])
