"""The whole service on one machine: real yt-dlp against the fake YouTube, real ffmpeg, real kill -9."""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
from pathlib import Path

import pytest

from tests.fake_youtube import BEHAVIOURS, UNKIND, Kind, Spawned, video_id, watch_url
from tests.stand.encoders import slow_ffmpeg
from tests.stand.failures import kill_and_restart, until_nothing_is_left
from tests.stand.links import spellings
from tests.stand.processes import descendants, is_running
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.waiting import until
from ytmp3.converter.audio.mp3 import walk_file
from ytmp3.core.errors import FAILURES, Fault

WAITING_CODES = {
    code for code, failure in FAILURES.items() if failure.fault in {Fault.RELEASE, Fault.NETWORK, Fault.SETTINGS}
}
"""Failures that cost no attempt: such a job waits until the end of its lifetime."""
SLOW_KINDS = {
    *(Kind.STALLED, Kind.HANGS, Kind.THUMBNAIL_HANGS, Kind.ENDLESS, Kind.CHALLENGE),
    *(Kind.SONG, Kind.M4A_SONG, Kind.MIX, Kind.HOUR),
}
"""Kinds that take a minute or more by their nature: tests/process/test_converter has them with short limits."""
REFUSING_CODES = {"bot_check", "rate_limited_upstream"}
"""With these codes YouTube refuses the service's address: the circuit breaker counts them."""
LINKS = 110
JOBS_AT_ONCE = 20
TOLERATED_SECONDS, TOLERATED_SHARE = 2.0, 0.02
"""Largest accepted difference between the duration of a track and the announced one: the larger of the two."""


async def how_it_ended(service: ServiceProcess, folder: Path, kind: Kind, number: int) -> str | None:
    """Convert one link; return None if it ended as the table of kinds says, else how it ended."""
    expected = BEHAVIOURS[kind].expected
    status, job = await service.post(watch_url(video_id(kind, number)))
    assert status in {200, 202}, job
    job = await service.until(job["job_id"])
    if expected != "done":
        code = job["error"]["code"] if job["error"] else None
        return None if (job["status"], code) == ("failed", expected) else f"{kind}: {job['status']} {code}"
    if job["status"] != "completed":
        return f"{kind}: {job['status']} {job['error']}"
    content = await service.download(job)
    assert hashlib.sha256(content).hexdigest() == job["file"]["sha256"]
    path = folder / f"{job['job_id']}.mp3"
    path.write_bytes(content)
    announced = job["metadata"]["duration_seconds"]
    measured = walk_file(path).duration_seconds
    is_right = abs(measured - announced) <= max(TOLERATED_SHARE * announced, TOLERATED_SECONDS)
    return None if is_right else f"{kind}: {measured} s instead of {announced} s"


async def test_110_mixed_links_end_as_they_should(youtube: Spawned, tmp_path: Path) -> None:
    youtube.reset()
    codes = {kind: BEHAVIOURS[kind].expected for kind in Kind if kind not in SLOW_KINDS}
    # The unkind ones that succeed in the end are in tests/process/test_every_kind.
    kinds = [
        kind for kind, code in codes.items() if code not in WAITING_CODES and not (kind in UNKIND and code == "done")
    ]
    refusing = [kind for kind in kinds if codes[kind] in REFUSING_CODES]
    wanted = [(kind, 1) for kind in kinds if kind not in refusing]
    # Three good ones follow each refusing one, which is tried twice. So most of the last ends are no refusals, however
    # slowly jobs end, and the circuit breaker stays closed.
    rounds = [[(kind, 1), *((Kind.SHORT, 1000 + 3 * n + m) for m in range(3))] for n, kind in enumerate(refusing)]
    in_order = [link for links in rounds for link in links]
    wanted += [(Kind.SHORT, 2000 + n) for n in range(LINKS - len(wanted) - len(in_order))]
    random.Random(5).shuffle(wanted)
    slots = asyncio.Semaphore(JOBS_AT_ONCE - 3)
    ends: list[str | None] = []
    async with service_process(tmp_path, MAX_JOB_RETRIES="1", MAX_FILE_MB="50", **egress(youtube)) as service:
        before = await service.descriptors()

        async def carry(kind: Kind, number: int) -> None:
            async with slots:
                ends.append(await how_it_ended(service, tmp_path, kind, number))

        async def carry_in_order() -> None:
            for refused, *others in rounds:
                ends.append(await how_it_ended(service, tmp_path, *refused))
                ends.extend(await asyncio.gather(*(how_it_ended(service, tmp_path, *link) for link in others)))

        await asyncio.gather(carry_in_order(), *(carry(kind, number) for kind, number in wanted))
        assert ends == [None] * LINKS
        await until_nothing_is_left(service, tmp_path / "data")
        await service.holds_at_most(before + 5)
        tracks = list((tmp_path / "data" / "tracks").glob("[!.]*"))
        assert len(tracks) == len([kind for kind, _ in wanted + in_order if BEHAVIOURS[kind].expected == "done"])
        # Operators count failed conversions by this line: one for each, however many attempts there were.
        await service.until_event("conversion failed", LINKS - len(tracks))
        failed = [event["conversion_id"] for event in service.events("conversion failed")]
        assert len(failed) == len(set(failed)) == LINKS - len(tracks)
    assert (youtube.trapped, youtube.refused) == (0, ())


async def test_videos_that_this_yt_dlp_cannot_read_wait_at_no_cost(youtube: Spawned, tmp_path: Path) -> None:
    unreadable = [Kind.GARBLED, Kind.NOT_ON_APP, Kind.SABR, Kind.PRECONDITION]
    async with service_process(tmp_path, MAX_JOB_RETRIES="0", **egress(youtube)) as service:
        links = [watch_url(video_id(kind, 30)) for kind in unreadable]
        waiting = [(await service.post(link))[1] for link in links]
        served = [(await service.post(watch_url(video_id(Kind.SHORT, 3000 + n))))[1] for n in range(3)]

        def have_waited() -> set[str]:
            return {event["conversion_id"] for event in service.events("queued again at no cost")}

        await until(lambda: len(have_waited()) == len(unreadable), "all of them have failed, and wait")

        async def all_wait() -> bool:
            # Each of them is tried again from time to time, and is not pending then.
            now = [await service.job(job["job_id"]) for job in waiting]
            return [(job["status"], (job["error"] or {}).get("code")) for job in now] == [
                ("pending", "extractor_broken")
            ] * len(waiting)

        await until(all_wait, "all of them wait, and name the reason")
        for job in served:
            assert (await service.until(job["job_id"]))["status"] == "completed"
        assert (await service.get("/health"))[1]["status"] == "ok"


async def test_fifty_posts_of_25_spellings_are_one_conversion(youtube: Spawned, tmp_path: Path) -> None:
    identifier = video_id(Kind.SHORT, 4711)
    links = spellings(identifier)
    assert len(set(links)) == 25
    async with service_process(tmp_path, **egress(youtube)) as service:
        answers = await asyncio.gather(*(service.post(link) for link in links * 2))
        assert {status for status, _ in answers} <= {200, 202}
        jobs = [await service.until(job["job_id"]) for _, job in answers]
        assert len({job["job_id"] for job in jobs}) == 50
        assert [job["deduplicated"] for job in jobs].count(False) == 1
        contents = await asyncio.gather(*(service.download(job) for job in jobs))
        assert len(set(contents)) == 1
    counts = youtube.counts(identifier)
    assert (counts.extractions, counts.media_requests) == (1, 1)


async def test_every_job_survives_kill_9_and_ends_by_itself(youtube: Spawned, tmp_path: Path) -> None:
    """20 jobs run and 20 are queued. `make soak` repeats this ten times, with 100 queued ones."""
    await kill_and_restart(youtube, tmp_path, first_number=1000, jobs_count=40)


async def test_a_post_beyond_the_capacity_of_the_queue_is_refused_and_stores_nothing(
    youtube: Spawned, tmp_path: Path
) -> None:
    async with service_process(tmp_path, WORKER_POOL_SIZE="1", DRAIN_SECONDS="0", **egress(youtube)) as service:
        # The only worker never gets free: that a refusal comes at all shows that it does not wait for a slot.
        _, busy = await service.post(watch_url(video_id(Kind.STALLED, 1)))
        await service.until(busy["job_id"], "downloading", "converting")
        jobs = []
        for start in range(0, 1000, 100):
            links = [watch_url(video_id(Kind.SHORT, 2000 + start + n)) for n in range(100)]
            answers = await asyncio.gather(*(service.post(link) for link in links))
            assert {status for status, _ in answers} == {202}
            jobs += [job["job_id"] for _, job in answers]
        _, stats = await service.get("/stats")
        assert stats["queue"] == {"length": 1000, "capacity": 1000}
        for n in range(20):
            status, answer = await service.post(watch_url(video_id(Kind.SHORT, 5000 + n)))
            assert (status, answer["code"]) == (503, "queue_full")
        assert (await service.get("/stats"))[1]["jobs"]["pending"] == stats["jobs"]["pending"]
        for job_id in jobs:
            assert (await service.job(job_id))["status"] == "pending"
        status, joined = await service.post(watch_url(video_id(Kind.SHORT, 2500)))
        assert (status, joined["deduplicated"]) == (202, True)


@pytest.mark.parametrize("stage", ["extracting", "downloading", "converting"])
async def test_a_cancelled_job_leaves_nothing_behind(youtube: Spawned, tmp_path: Path, stage: str) -> None:
    # Each kind stays in its stage: without an answer, with half of its bytes, with an encoder that takes minutes.
    kind = {"extracting": Kind.HANGS, "downloading": Kind.STALLED, "converting": Kind.CLIP}[stage]
    settings = {"FFMPEG_PATH": str(slow_ffmpeg(tmp_path))} if stage == "converting" else {}
    async with service_process(tmp_path, **egress(youtube), **settings) as service:
        _, job = await service.post(watch_url(video_id(kind, 77)))
        await service.until(job["job_id"], stage)
        async with service.client.delete(f"{service.url}/jobs/{job['job_id']}") as response:
            assert (response.status, (await response.json())["status"]) == (200, "cancelled")
        await until_nothing_is_left(service, tmp_path / "data")

        async def is_idle() -> bool:
            return bool((await service.get("/stats"))[1]["workers"]["active"] == 0)

        await until(is_idle, "the worker is free")
        assert not list((tmp_path / "data" / "tracks").glob("[!.]*"))


async def test_a_job_on_the_conversion_of_a_cancelled_job_is_untouched(youtube: Spawned, tmp_path: Path) -> None:
    async with service_process(tmp_path, **egress(youtube)) as service:
        link = watch_url(video_id(Kind.SLOW, 78))
        (_, first), (_, second) = await service.post(link), await service.post(link)
        async with service.client.delete(f"{service.url}/jobs/{first['job_id']}"):
            pass
        assert (await service.job(first["job_id"]))["status"] == "cancelled"
        assert (await service.until(second["job_id"]))["status"] == "completed"


async def test_sigterm_releases_running_conversions_and_a_restart_finishes_them(
    youtube: Spawned, tmp_path: Path
) -> None:
    async with service_process(tmp_path, DRAIN_SECONDS="1", WORKER_POOL_SIZE="2", **egress(youtube)) as service:
        links = [watch_url(video_id(Kind.STALLED, 80 + n)) for n in range(2)]
        links += [watch_url(video_id(Kind.SHORT, 6000 + n)) for n in range(5)]
        jobs = [(await service.post(link))[1] for link in links]
        for job in jobs[:2]:
            await service.until(job["job_id"], "downloading")
        tools = descendants(service.pid)
        assert await service.stop(signal.SIGTERM) == 0
        assert len(service.events("conversion given back")) == 2
        await until(lambda: not any(map(is_running, tools)), "the tools of the stopped service have ended")
        # The stalled downloads take two workers again.
        service.settings = {**service.settings, "WORKER_POOL_SIZE": "4"}
        await service.start()
        for job in jobs[2:]:
            ended = await service.until(job["job_id"])
            assert (ended["status"], ended["attempt"]) == ("completed", 1)
        assert (await service.until(jobs[0]["job_id"], "downloading"))["attempt"] == 1


async def test_a_sigterm_to_all_processes_of_the_service_costs_no_attempt(youtube: Spawned, tmp_path: Path) -> None:
    """As systemd sends it by default, and as a terminal sends SIGINT."""
    async with service_process(tmp_path, DRAIN_SECONDS="5", **egress(youtube)) as service:
        jobs = [(await service.post(watch_url(video_id(Kind.STALLED, 100 + n))))[1] for n in range(2)]
        for job in jobs:
            await service.until(job["job_id"], "downloading")
        tools = descendants(service.pid)
        service.send_signal(signal.SIGTERM)
        for pid in tools:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        assert await service.wait() == 0
        await service.start()
        for job in jobs:
            assert (await service.until(job["job_id"], "downloading"))["attempt"] == 1


async def test_a_second_sigterm_ends_the_drain_at_once_and_still_releases(youtube: Spawned, tmp_path: Path) -> None:
    async with service_process(tmp_path, DRAIN_SECONDS="3600", **egress(youtube)) as service:
        _, job = await service.post(watch_url(video_id(Kind.STALLED, 90)))
        await service.until(job["job_id"], "downloading")
        service.send_signal(signal.SIGTERM)
        await service.until_health(503)
        assert await service.stop(signal.SIGTERM) == 0
        assert len(service.events("conversion given back")) == 1
