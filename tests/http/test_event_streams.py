"""`GET /events`: each job first, then its changes; reconnecting, leaving, limits and the end, as docs/api.md says."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.http.responses import expect_problem, raw_request
from tests.http.running_service import RunningService, running_service
from tests.stand.event_stream import StreamedEvent, events_of, next_event
from tests.stand.waiting import until
from ytmp3.core.errors import StoreDown
from ytmp3.core.ids import JobId
from ytmp3.core.job import Report, Stage
from ytmp3.http.job_events import MAX_JOBS
from ytmp3.http.keys import key_line
from ytmp3.http.streams import LAST_EVENT_ID
from ytmp3.serve import drain

VIDEO = "dQw4w9WgXcQ"
OTHER_VIDEO = "aqz-KE-bpKQ"
UNKNOWN = "0" * 34


async def all_events(service: RunningService, jobs: str, last_id: str | None = None) -> tuple[int, list[StreamedEvent]]:
    """Follow jobs until the stream ends; return the status and all events."""
    headers = {} if last_id is None else {LAST_EVENT_ID: last_id}
    async with service.client.get(f"{service.url}/events?jobs={jobs}", headers=headers) as response:
        return response.status, [event async for event in events_of(response) if event.fields]


async def test_a_stream_shows_the_whole_job_then_its_changes_and_ends(service: RunningService) -> None:
    may_convert = service.converter.hold(VIDEO)
    job_id = (await service.submit(VIDEO))["job_id"]
    await until(lambda: VIDEO in service.converter.running, "the conversion runs")
    async with service.client.get(f"{service.url}/events?jobs={job_id}") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        events = events_of(response)
        assert 1000 <= int((await anext(events)).fields["retry"]) <= 2000
        first = await next_event(events, "job")
        async with service.client.get(f"{service.url}/status/{job_id}") as status:
            assert first.data | {"eta_seconds": 0} == await status.json() | {"eta_seconds": 0}
        assert first.data["stage"] == "downloading"
        may_convert.set()
        rest = [event async for event in events if event.fields]
    assert [event.name for event in rest[-2:]] == ["job", "end"]
    last = rest[-2]
    assert (last.data["status"], last.data["progress"]) == ("completed", 1.0)
    ids = [event.fields["id"] for event in [first, *rest[:-1]]]
    assert len(set(ids)) == len(ids)
    assert last.data == await service.ended(job_id)


async def test_one_stream_follows_many_jobs_and_names_the_unknown_ones(service: RunningService) -> None:
    jobs = [(await service.completed(video))["job_id"] for video in (VIDEO, OTHER_VIDEO)]
    status, events = await all_events(service, ",".join([*jobs, UNKNOWN, jobs[0]]))
    assert status == 200
    assert [event.name for event in events[1:]] == ["job", "job", "unknown", "end"]
    assert [event.data["job_id"] for event in events[1:-1]] == [*jobs, UNKNOWN]


async def test_a_client_that_reconnects_hears_only_what_is_new_and_204_after_the_end(service: RunningService) -> None:
    may_convert = service.converter.hold(VIDEO)
    jobs = [(await service.submit(video))["job_id"] for video in (VIDEO, OTHER_VIDEO)]
    await service.ended(jobs[1])
    await until(lambda: VIDEO in service.converter.running, "the conversion runs")
    url = f"{service.url}/events?jobs={','.join(jobs)}"
    async with service.client.get(url) as response:
        events = events_of(response)
        seen = [await next_event(events, "job") for _ in jobs]
    last_id = seen[-1].fields["id"]
    async with service.client.get(url, headers={LAST_EVENT_ID: last_id}) as response:
        may_convert.set()
        events = events_of(response)
        new = await next_event(events, "job")
        assert (new.data["job_id"], new.fields["id"] != last_id) == (jobs[0], True)
        rest = [event async for event in events if event.fields]
    last_id = ([new, *rest][-2]).fields["id"]
    assert await all_events(service, ",".join(jobs), last_id) == (204, [])
    # An id of another state, or none, brings the whole again.
    for other_id in (None, "0" * 16, "garbage", seen[0].fields["id"]):
        status, events_again = await all_events(service, ",".join(jobs), other_id)
        assert (status, [event.name for event in events_again[1:]]) == (200, ["job", "job", "end"])
        assert events_again[-2].fields["id"] == last_id


async def test_head_and_http_1_0_are_served(service: RunningService) -> None:
    service.converter.hold(VIDEO)
    held = (await service.submit(VIDEO))["job_id"]
    async with service.client.head(f"{service.url}/events?jobs={held}") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
    done = (await service.completed(OTHER_VIDEO))["job_id"]
    received = await service.raw(f"GET /events?jobs={done} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
    assert received.endswith(b"event: end\ndata: {}\n\n")
    assert b"chunked" not in received


@pytest.mark.parametrize(
    "query",
    ["", "?jobs=", "?jobs=,", "?jobs=x", f"?jobs={UNKNOWN},", f"?jobs={UNKNOWN}&jobs={UNKNOWN}", "?jobs=%00",
     f"?jobs={UNKNOWN}%20", "?jobs=" + ",".join(f"{number:034x}" for number in range(MAX_JOBS + 1))],
)  # fmt: skip
async def test_a_malformed_list_of_jobs_is_refused(service: RunningService, query: str) -> None:
    await expect_problem(service, "GET", f"/events{query}", 400, "invalid_field")


async def test_ids_without_any_job_are_the_same_404_as_a_status(service: RunningService) -> None:
    await expect_problem(service, "GET", f"/events?jobs={UNKNOWN}", 404, "job_unknown")
    service.store.broken["get_many"] = StoreDown("no answer")
    await expect_problem(service, "GET", f"/events?jobs={UNKNOWN}", 503, "store_unavailable")


async def test_a_stream_sends_a_job_that_could_not_be_read_as_soon_as_it_can(service: RunningService) -> None:
    jobs = [(await service.completed(video))["job_id"] for video in (VIDEO, OTHER_VIDEO)]
    service.store.unread = {jobs[0], JobId(UNKNOWN)}
    async with service.client.get(f"{service.url}/events?jobs={','.join([*jobs, UNKNOWN])}") as response:
        events = events_of(response)
        assert (await next_event(events, "job", "unknown", "end")).data["job_id"] == jobs[1]
        service.store.unread = set()
        rest = [(event.name, event.data.get("job_id")) async for event in events if event.fields]
    assert rest == [("job", jobs[0]), ("unknown", UNKNOWN), ("end", None)]


async def test_with_keys_a_stream_shows_only_the_owners_jobs(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{key_line('one', 'secret-1')}\n{key_line('two', 'secret-2')}\n")
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(keys)) as service:
        owner, other = ({"X-API-Key": f"secret-{number}"} for number in (1, 2))
        body = {"url": f"https://youtu.be/{VIDEO}"}
        jobs = []
        for headers in (owner, other):
            async with service.client.post(f"{service.url}/extract", json=body, headers=headers) as response:
                jobs.append((await response.json())["job_id"])
        await expect_problem(service, "GET", f"/events?jobs={jobs[0]}", 401, "unauthorized")
        await expect_problem(service, "GET", f"/events?jobs={jobs[0]}", 404, "job_unknown", headers=other)
        url = f"{service.url}/events?jobs={','.join(jobs)}"
        async with service.client.get(url, headers=owner) as response:
            events = [event async for event in events_of(response) if event.fields]
        assert {(event.name, event.data["job_id"]) for event in events[1:-1]} == {
            ("job", jobs[0]), ("unknown", jobs[1]),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({"CLIENT_MAX_STREAMS": "2"}, 429, "client_quota"),
        ({"MAX_STREAMS": "2", "CLIENT_MAX_STREAMS": "0"}, 503, "too_many_streams"),
    ],
)
async def test_streams_beyond_a_limit_are_refused_until_one_ends(
    tmp_path: Path, settings: dict[str, str], status: int, code: str
) -> None:
    async with running_service(tmp_path / "data", **settings) as service:
        service.converter.hold(VIDEO)
        path = f"/events?jobs={(await service.submit(VIDEO))['job_id']}"
        async with service.client.get(service.url + path) as first, service.client.get(service.url + path):
            await expect_problem(service, "GET", path, status, code)
            first.close()
            # The service sees at once that the client has left: no heartbeat is needed for it.
            await until(lambda: service.parts.streams.active == 1, "one stream is left")
            async with service.client.get(service.url + path) as response:
                assert response.status == 200
        await until(lambda: service.parts.streams.active == 0, "no stream is left")


async def test_a_client_that_closes_only_its_side_ends_its_stream(service: RunningService) -> None:
    service.converter.hold(VIDEO)
    job_id = (await service.submit(VIDEO))["job_id"]
    reader, writer = await asyncio.open_connection(service.host, service.port)
    writer.write(raw_request(f"GET /events?jobs={job_id}"))
    await reader.readuntil(b"event: job\n")
    assert service.parts.streams.active == 1
    writer.write_eof()
    await until(lambda: service.parts.streams.active == 0, "the stream has ended")
    writer.close()


async def test_a_drain_ends_every_stream_and_a_new_one_is_a_snapshot(tmp_path: Path) -> None:
    is_forced = asyncio.Event()
    # The drain lasts for as long as the test wants.
    async with running_service(tmp_path / "data", DRAIN_SECONDS="3600") as service:
        service.converter.hold(VIDEO)
        job_id = (await service.submit(VIDEO))["job_id"]
        async with service.client.get(f"{service.url}/events?jobs={job_id}") as response:
            events = events_of(response)
            await next_event(events, "job")
            draining = asyncio.create_task(drain(service.parts, is_forced))
            rest = [event.name async for event in events]
            assert "end" not in rest
            status, events_again = await all_events(service, job_id)
            assert (status, [event.name for event in events_again]) == (200, [None, "job"])
            assert not draining.done()
            is_forced.set()
            await draining


async def test_a_reader_that_takes_nothing_gets_the_newest_state_and_no_backlog(service: RunningService) -> None:
    service.converter.hold(VIDEO)
    service.converter.title = "x" * 2000
    job_id = (await service.submit(VIDEO))["job_id"]
    await until(lambda: VIDEO in service.converter.running, "the conversion runs")
    (run,) = service.parts.runs
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect((service.host, service.port))
    reader, writer = await asyncio.open_connection(sock=deaf, limit=1)
    writer.write(raw_request(f"GET /events?jobs={job_id}"))
    await until(lambda: service.parts.streams.active == 1, "the stream is open")
    stages = (Stage.DOWNLOADING, Stage.CONVERTING)
    made = 400
    # Each report has another stage, so each may be sent at once, until the buffers of both sides are full.
    for number in range(made):
        run.on_progress(Report(stage=stages[number % 2], progress=number / 10_000))
        for _ in range(5):
            await asyncio.sleep(0)
    run.on_progress(Report(stage=Stage.PUBLISHING, progress=0.9))
    received = b""
    while b'"publishing"' not in received:
        received += await reader.read(65536)
    assert 2 < received.count(b"event: job\n") < made / 2
    writer.close()
