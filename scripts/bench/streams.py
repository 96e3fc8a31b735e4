"""Event streams: how late events are, and what a thousand streams cost, while songs convert."""

import asyncio
import re
import time
from datetime import datetime

from scripts.bench.load import open_loop
from scripts.bench.measure import p99
from scripts.bench.requests import latency_rows
from scripts.bench.services import Bench, Row, asking, service_with
from tests.fake_youtube import Kind
from tests.stand.service_process import ServiceProcess

_COMPLETED = re.compile(rb'"status":"completed".*?"completed_at":"([^"]+)"')


async def event_streams(bench: Bench) -> list[Row]:
    """Open many streams, each of a job of its own, on songs that convert. Many jobs share each conversion.

    The delay of an event is the time from `completed_at`, the store's clock at the end of the conversion, until the
    client has the event. Both clocks are this machine's.
    """
    songs, streams = (4, 200) if bench.is_quick else (20, 1000)
    settings = {"CLIENT_MAX_STREAMS": "0", "REQUESTS_PER_SECOND": "100000", "BURST_SIZE": "100000"}
    async with service_with(bench, "sqlite", **settings) as service:
        links = bench.links(Kind.SONG, songs)
        jobs = [(await service.post(links[number % songs]))[1]["job_id"] for number in range(streams)]
        before_bytes = await resident_bytes(service)
        delays: list[float] = []
        are_open = asyncio.Event()
        opened = 0

        async def follow(job_id: str) -> None:
            nonlocal opened
            host, _, port = service.url.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET /events?jobs={job_id} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await reader.readuntil(b"event: job\n")
            opened += 1
            if opened == streams:
                are_open.set()
            while line := await reader.readline():
                if (found := _COMPLETED.search(line)) is not None:
                    delays.append(time.time() - datetime.fromisoformat(found[1].decode()).timestamp())
                    break
            writer.close()

        async with asyncio.TaskGroup() as followers:
            for job_id in jobs:
                followers.create_task(follow(job_id))
            await are_open.wait()
            after_bytes = await resident_bytes(service)
            asked = await open_loop(asking(service, f"/status/{jobs[0]}"), rate=100, seconds=5.0)
    note = f"{streams} streams while {songs} songs convert"
    return [
        Row(what=f"delay of an event, {note}: p99", value=1000 * p99(delays), goal=250, at_least=False, unit="ms"),
        *latency_rows(f"GET /status at 100/s, {note}", asked, 50),
        Row(
            what=f"memory of a stream, {note}",
            value=(after_bytes - before_bytes) / 1000 / streams,
            goal=25,
            at_least=False,
            unit="kB",
            note="growth of the server process",
        ),
    ]


async def resident_bytes(service: ServiceProcess) -> int:
    """Return the resident memory of the server process, without its children."""
    _, stats = await service.get("/stats")
    return int(stats["memory"]["resident_bytes"])
