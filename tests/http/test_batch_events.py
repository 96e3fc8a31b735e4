"""`GET /batches/ID/events`: the batch and the jobs of its open items, until the batch has ended."""

from tests.http.responses import expect_problem
from tests.http.running_service import RunningService
from tests.stand.event_stream import events_of, next_event
from ytmp3.http.streams import LAST_EVENT_ID

VIDEOS = ("dQw4w9WgXcQ", "aqz-KE-bpKQ")


async def new_batch(service: RunningService) -> str:
    links = [*(f"https://youtu.be/{video}" for video in VIDEOS), "https://example.org/"]
    async with service.client.post(f"{service.url}/batches", json={"urls": links}) as response:
        assert response.status == 202
        return str((await response.json())["batch_id"])


async def test_a_stream_follows_a_batch_from_its_first_job_to_its_end(service: RunningService) -> None:
    held = [service.converter.hold(video) for video in VIDEOS]
    batch_id = await new_batch(service)
    url = f"{service.url}/batches/{batch_id}/events"
    async with service.client.get(url) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        events = events_of(response)
        first = await next_event(events, "batch")
        assert (first.data["batch_id"], first.data["counts"]["total"]) == (batch_id, 3)
        seen: dict[str, str] = {}
        while list(seen.values()).count("processing") < len(VIDEOS):
            job = (await next_event(events, "job")).data
            seen[job["video_id"]] = job["status"]
        for may_convert in held:
            may_convert.set()
        last = None
        names = []
        async for event in events:
            if event.name == "job":
                seen[event.data["video_id"]] = event.data["status"]
            if event.name == "batch":
                last = event
            names.append(event.name)
    assert seen == dict.fromkeys(VIDEOS, "completed")
    assert names[-1] == "end"
    assert last is not None
    assert (last.data["status"], last.data["counts"]["completed"], last.data["counts"]["refused"]) == (
        "completed",
        2,
        1,
    )
    async with service.client.get(url, headers={LAST_EVENT_ID: last.fields["id"]}) as response:
        assert response.status == 204
    async with service.client.get(url) as response:
        assert [event.name async for event in events_of(response)] == [None, "batch", "end"]


async def test_an_unknown_batch_has_no_stream(service: RunningService) -> None:
    for batch_id in ("0" * 34, "x"):
        await expect_problem(service, "GET", f"/batches/{batch_id}/events", 404, "batch_unknown")
