"""Event streams through the real nginx, and of jobs that another instance converts."""

import signal
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.cluster import cluster
from tests.stand.event_stream import events_of, next_event
from tests.stand.service_process import egress
from tests.stand.waiting import until
from tests.system.behind_nginx import behind_nginx

VIDEO = "dQw4w9WgXcQ"


async def test_nginx_passes_each_event_on_at_once_and_tells_the_service_when_the_client_leaves(tmp_path: Path) -> None:
    async with behind_nginx(tmp_path) as site:
        may_convert = site.service.converter.hold(VIDEO)
        job_id = (await site.service.submit(VIDEO))["job_id"]
        url = f"{site.url}/events?jobs={job_id}"
        async with site.service.client.get(url) as response, site.service.client.get(url) as leaving:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            assert "Content-Encoding" not in response.headers
            events = events_of(response)
            # If nginx buffered the stream, this would not arrive before the end of the job.
            assert (await next_event(events, "job")).data["status"] in {"pending", "processing"}
            await next_event(events_of(leaving), "job")
            leaving.close()
            await until(lambda: site.service.parts.streams.active == 1, "the stream of the client that left has ended")
            may_convert.set()
            assert [event.name async for event in events if event.fields][-1] == "end"
        assert site.complaints() == []


async def test_an_instance_streams_a_job_that_another_one_converts_and_its_successor_goes_on(
    youtube: Spawned, tmp_path: Path
) -> None:
    settings = {"LEASE_SECONDS": "6", "DRAIN_SECONDS": "0"}
    async with cluster(tmp_path / "c", settings | egress(youtube), instances=2) as running:
        converting, streaming = running.instances
        job = await converting.submit(watch_url(video_id(Kind.STALLED, 9)))
        await converting.until(job["job_id"], "downloading")
        async with streaming.client.get(f"{streaming.url}/events?jobs={job['job_id']}") as response:
            events = events_of(response)
            assert (await next_event(events, "job")).data["status"] == "processing"
            converting.send_signal(signal.SIGTERM)
            # The drain gives the conversion back, and the other instance adopts it and begins again.
            while (await next_event(events, "job")).data["stage"] not in {"queued", "extracting"}:
                pass
            async with streaming.client.delete(f"{streaming.url}/jobs/{job['job_id']}") as deleted:
                assert deleted.status == 200
            names = [(event.name, event.fields) async for event in events if event.fields]
            assert names[-1][0] == "end"
        # An instance that drains ends its streams, so that they do not take up its time to drain.
        job = await streaming.submit(watch_url(video_id(Kind.STALLED, 10)))
        async with running.instances[1].client.get(f"{running.url}/events?jobs={job['job_id']}") as response:
            events = events_of(response)
            await next_event(events, "job")
            streaming.send_signal(signal.SIGTERM)
            rest = [event.name async for event in events]
            assert "end" not in rest
        assert (await converting.wait(), await streaming.wait()) == (0, 0)
