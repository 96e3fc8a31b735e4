"""Updates of yt-dlp without a command: a good release comes into use, and a bad one is left without a failed job."""

import contextlib
import datetime as dt
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.package_index import (
    SOLVER,
    PackageIndex,
    extractor_files,
    extractor_wheel,
    package_index,
    solver_files,
    wheel,
)
from tests.stand.pipeline import limits
from tests.stand.service_process import egress
from tests.stand.waiting import until
from ytmp3.app import Service, running
from ytmp3.config import load
from ytmp3.converter import OnlyPassage, TrialPassage
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.releases.canary import Canary, Trial
from ytmp3.converter.releases.store import ReleaseStore
from ytmp3.converter.releases.updater import Pace, Updater
from ytmp3.converter.releases.workshop import Workshop
from ytmp3.converter.slots import FairSlots
from ytmp3.core.ids import VideoId
from ytmp3.core.rollout import CanaryVerdict, Steps
from ytmp3.engine.release_updates import UpstreamForUpdates

GOOD, LATER, YOUNG = "2099.1.1", "2099.1.2", "2099.1.3"
"""Newer than every installed release. LATER passes the trial without a network, and fails at YouTube."""
MOST_CONVERSIONS = 20
"""Within this many conversions with it, a bad release is left."""
PACE = Pace(
    poll_seconds=0.05,
    first_seconds=0.0,
    follow_seconds=0.05,
    steps=Steps(shares=(75, 100), conversions=1, seconds=3600.0),
)


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with package_index() as running_index:
        running_index.add("yt-dlp-ejs", SOLVER, wheel("yt-dlp-ejs", SOLVER, solver_files()))
        yield running_index


def offer(index: PackageIndex, version: str, files: Mapping[str, bytes], *, days: float) -> None:
    """Add a release that was uploaded some days ago."""
    index.add("yt-dlp", version, extractor_wheel(version, files))
    uploaded = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    index.uploaded[f"yt_dlp-{version}-py3-none-any.whl"] = uploaded.isoformat().replace("+00:00", "Z")


def failing_later() -> dict[str, bytes]:
    files, name = extractor_files(LATER), "yt_dlp/extractor/youtube/_video.py"
    entry = b"    def _real_extract(self, url):\n"
    assert entry in files[name]
    fails = b"        if 'rehearsal00' not in url: raise ExtractorError('YouTube has changed')\n"
    return {**files, name: files[name].replace(entry, entry + fails)}


@asynccontextmanager
async def updating(
    folder: Path, youtube: Spawned, index: PackageIndex, **settings: str
) -> AsyncIterator[tuple[Service, Callable[[int], Awaitable[None]]]]:
    """Run a service that updates itself. Yields it, and a function that converts the video with this number."""
    environ = {"DATA_DIR": str(folder), "YTDLP_INDEX": index.url, "YTDLP_UPDATE": "stable"} | egress(youtube) | settings
    make_converter = functools.partial(Pipeline, pace=PACE)
    async with running(load(environ), make_converter) as service, AsyncExitStack() as stack:
        runner = web.AppRunner(service.app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await until(lambda: service.health.is_ready, "the service is ready")
        async with ClientSession("http://{}:{}".format(*runner.addresses[0][:2])) as client:

            async def convert(number: int) -> None:
                link = watch_url(video_id(Kind.SHORT, number))
                async with client.post("/extract", json={"url": link}) as response:
                    job: dict[str, Any] = await response.json()

                async def has_ended() -> bool:
                    nonlocal job
                    async with client.get(job["status_url"]) as response:
                        job = await response.json()
                    return job["status"] in {"completed", "failed"}

                await until(has_ended, "the job has ended", poll_seconds=0.03)
                assert job["status"] == "completed", job

            yield service, convert


async def test_a_good_release_comes_into_use_and_a_bad_one_is_left_without_a_failed_job(
    youtube: Spawned, tmp_path: Path, index: PackageIndex, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "data"
    store = ReleaseStore(folder / "extractor")
    offer(index, GOOD, extractor_files(GOOD), days=3)
    canaries = {"YTDLP_CANARY_URLS": watch_url(video_id(Kind.CLIP, 900))}
    number = 0
    async with updating(folder, youtube, index, **canaries) as (service, convert):
        await until(lambda: service.converter.release().newest == GOOD, "the release is tried with conversions")
        assert service.converter.release().share == 75
        while service.converter.release().established != GOOD:
            number += 1
            await convert(number)
            assert number < 200
        assert store.state().share == 100
        assert service.converter.release_outcomes()[GOOD, "converted"] >= PACE.steps.conversions
    offer(index, LATER, failing_later(), days=3)
    async with updating(folder, youtube, index) as (service, convert):
        await until(lambda: service.converter.release().newest == LATER, "the release is tried with conversions")
        assert service.converter.release().established == GOOD
        while store.state().active == LATER:
            number += 1
            await convert(number)
            assert number < 400
        assert (store.state().active, list(store.state().quarantined)) == (GOOD, [LATER])
        outcomes = service.converter.release_outcomes()
        assert (outcomes[LATER, "converted"], outcomes[LATER, "blamed"]) == (0, outcomes[LATER, "failed"])
        assert 0 < outcomes[LATER, "blamed"] <= MOST_CONVERSIONS
        await until(lambda: service.converter.release().quarantined == (LATER,), "the server has read the state")
        assert not service.converter.release().is_refused
        messages = [record.message for record in caplog.records]
        assert messages.count("extractor release given up") == 1
        assert not {"retry scheduled", "conversion failed"} & set(messages)
        await until_it_is_not_tried_again(service, index, store)
        await until_a_canary_would_have_found_it(service, store)


async def until_it_is_not_tried_again(service: Service, index: PackageIndex, store: ReleaseStore) -> None:
    offer(index, YOUNG, extractor_files(YOUNG), days=1)
    index.asked.clear()
    generations, settings = service.converter._generations, service.config.tools  # type: ignore[attr-defined]
    surroundings = UpstreamForUpdates(service.upstream, service.store.values)
    workshop = Workshop(settings, store, {})
    updater = Updater("stable", store, workshop, canary_of(service), generations, PACE, surroundings)
    await updater.look()
    assert index.asked == ["/simple/yt-dlp/"]
    assert YOUNG in store.state().seen
    assert store.state().active == GOOD


async def until_a_canary_would_have_found_it(service: Service, store: ReleaseStore) -> None:
    async def trial_of(kind: Kind) -> Trial:
        new = generations.maker.held(LATER)
        try:
            await new.start()
            with generations.in_use() as established:
                return await canary_of(service, video_id(kind, 901), passage=passage).run(new, established)
        finally:
            await new.close()

    generations = service.converter._generations  # type: ignore[attr-defined]
    store.verify(LATER)
    passage = RecordedPassage()
    trial = await trial_of(Kind.SHORT)
    assert (trial.verdict, "YouTube has changed" in trial.reason) == (CanaryVerdict.REFUSED, True)
    # The new release failed twice, and the established one served the video between.
    assert (passage.begun, passage.served_videos) == (3, [video_id(Kind.SHORT, 901)])
    # The established release fails as well, so nothing is learnt about the new one.
    assert (await trial_of(Kind.UNAVAILABLE)).verdict is CanaryVerdict.UNDECIDED


class RecordedPassage(OnlyPassage):
    """Records what a trial reports to the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.served_videos: list[str] = []

    def begin(self) -> None:
        self.begun += 1

    def served(self, video_id: VideoId) -> None:
        self.served_videos.append(video_id)


def canary_of(service: Service, *videos: str, passage: TrialPassage | None = None) -> Canary:
    identities = service.converter._generations.identities  # type: ignore[attr-defined]
    return Canary(
        [VideoId(each) for each in videos],
        limits(),
        identities,
        take_passage=lambda _: contextlib.nullcontext(passage or RecordedPassage()),
        take_slot=FairSlots(1, spare=0).slot,
    )
