"""Event streams: how late events are, and what a thousand streams cost, while songs convert."""

import asyncio
import re
import time
from datetime import datetime

from scripts.bench.load import Latencies, open_loop
from scripts.bench.measure import median, p99
from scripts.bench.requests import latency_rows
from scripts.bench.services import Bench, Row, asking, running_valkey, service_with
from tests.fake_youtube import Kind
from tests.stand.service_process import ServiceProcess

SETTINGS = {"CLIENT_MAX_STREAMS": "0", "REQUESTS_PER_SECOND": "100000", "BURST_SIZE": "100000"}
_COMPLETED = re.compile(rb'"status":"completed".*?"completed_at":"([^"]+)"')


async def event_streams(bench: Bench) -> list[Row]:
    """Open many streams, each of a job of its own, on songs that convert. Many jobs share each conversion."""
    songs, streams = (4, 200) if bench.is_quick else (20, 1000)
    async with service_with(bench, "sqlite", **SETTINGS) as service:
        delays, kilobytes, asked = await _measured(bench, service, service, songs, streams)
    note = f"{streams} streams while {songs} songs convert"
    return [
        _delay_row(note, delays),
        *latency_rows(f"GET /status at 100/s, {note}", asked, 50),
        Row(
            what=f"memory of a stream, {note}",
            value=kilobytes / streams,
            goal=25,
            at_least=False,
            unit="kB",
            note="growth of the server process",
        ),
    ]


async def event_streams_across(bench: Bench) -> list[Row]:
    """Open streams at one instance, of jobs that another one converts. Both share a Valkey."""
    songs, streams = (2, 20) if bench.is_quick else (10, 100)
    async with running_valkey(bench) as valkey, bench.service("a", REDIS_ADDR=valkey.address, **SETTINGS) as converting:
        folder = converting.settings["DATA_DIR"]
        async with bench.service("b", REDIS_ADDR=valkey.address, DATA_DIR=folder, **SETTINGS) as streaming:
            delays, _, _ = await _measured(bench, converting, streaming, songs, streams)
    return [_delay_row(f"{streams} streams at another instance while {songs} songs convert", delays)]


def _delay_row(note: str, delays: list[float]) -> Row:
    middle = f"p50 {1000 * median(delays):.1f} ms"
    what = f"delay of an event, {note}: p99"
    return Row(what=what, value=1000 * p99(delays), goal=250, at_least=False, unit="ms", note=middle)


async def _measured(
    bench: Bench, converting: ServiceProcess, streaming: ServiceProcess, songs: int, streams: int
) -> tuple[list[float], float, Latencies]:
    """Return the delays of the last events, the memory that the streams take, in kB, and the latencies of `/status`.

    The delay of an event is the time from `completed_at`, the store's clock at the end of the conversion, until the
    client has the event. Both clocks are this machine's.
    """
    links = bench.links(Kind.SONG, songs)
    jobs = [(await converting.post(links[number % songs]))[1]["job_id"] for number in range(streams)]
    before_bytes = await resident_bytes(streaming)
    delays: list[float] = []
    are_open = asyncio.Event()
    opened = 0

    async def follow(job_id: str) -> None:
        nonlocal opened
        host, _, port = streaming.url.removeprefix("http://").partition(":")
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
        kilobytes = (await resident_bytes(streaming) - before_bytes) / 1000
        asked = await open_loop(asking(streaming, f"/status/{jobs[0]}"), rate=100, seconds=5.0)
    return delays, kilobytes, asked


async def resident_bytes(service: ServiceProcess) -> int:
    """Return the resident memory of the server process, without its children."""
    _, stats = await service.get("/stats")
    return int(stats["memory"]["resident_bytes"])
