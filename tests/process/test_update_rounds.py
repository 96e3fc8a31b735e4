"""Rounds of an update: what may change during a trial, what a failed trial leaves, and when the next round follows."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.stand.package_index import SOLVER, PackageIndex, extractor_wheel, package_index, wheel
from tests.stand.pipeline import limits
from tests.stand.releases import settings_of
from tests.stand.waiting import until
from ytmp3.converter import OnlyPassage, TrialPassage
from ytmp3.converter.generations import Generations
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.releases.canary import Canary
from ytmp3.converter.releases.store import BusyError, ReleaseStore
from ytmp3.converter.releases.updater import Pace, Updater
from ytmp3.converter.releases.workshop import CannotTryError, Workshop
from ytmp3.converter.slots import FairSlots
from ytmp3.core.errors import Fault
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.release_state import BUILT_IN
from ytmp3.core.rollout import Offer

OLDER, NEWER = "2099.1.1", "2099.1.2"
"""Newer than every installed release."""


class ScriptedWorkshop(Workshop):
    """Fetches releases really, but offers and tries them as the test says."""

    offered: tuple[str, ...] = (OLDER,)
    uploaded_at = 0.0
    result: Callable[[], list[str]] = list
    tries = 0

    async def offers(self) -> tuple[Offer, ...]:
        return tuple(Offer(version=version, uploaded_at=self.uploaded_at) for version in self.offered)

    async def faults(self, version: str) -> list[str]:
        self.tries += 1
        return self.result()


class Surroundings:
    """No pause, and a turn that nobody else has, unless the test says otherwise."""

    def __init__(self) -> None:
        self.obstacle, self.turns = "", 0
        self.fault: Fault | None = None

    def is_broken(self) -> bool:
        return self.fault is not None

    def cause(self) -> Fault | None:
        return self.fault

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[str]:
        self.turns += 1
        yield self.obstacle

    @contextlib.asynccontextmanager
    async def passage(self, _: VideoId) -> AsyncIterator[TrialPassage]:
        """Wait forever: the budget is used up."""
        await asyncio.Event().wait()
        raise AssertionError
        yield


class UnusedPassage(OnlyPassage):
    """Records whether its place in the budget is used."""

    is_begun = False

    def begin(self) -> None:
        self.is_begun = True

    def served(self, video_id: VideoId) -> None:
        raise AssertionError(video_id)


class Round:
    """An updater with its parts."""

    def __init__(self, folder: Path, index: PackageIndex, *videos: str) -> None:
        self.store = ReleaseStore(folder / "extractor")
        self.settings = settings_of(folder / "extractor", index)
        self.workshop = ScriptedWorkshop(self.settings, self.store, {})
        self.surroundings = Surroundings()
        self.generations = Generations(self.settings, folder)
        canary = Canary(
            [VideoId(each) for each in videos],
            limits(),
            self.generations.identities,
            take_passage=self.surroundings.passage,
            take_slot=FairSlots(1, spare=0).slot,
            wait_seconds=0.1,
        )
        pace = Pace(poll_seconds=0.01, first_seconds=0.0, again_seconds=0.01)
        parts = (self.store, self.workshop, canary, self.generations)
        self.updater = Updater("stable", *parts, pace, self.surroundings)


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with package_index() as running:
        running.add("yt-dlp-ejs", SOLVER, wheel("yt-dlp-ejs", SOLVER, {"yt_dlp_ejs/__init__.py": b""}))
        for version in (OLDER, NEWER):
            running.add("yt-dlp", version, extractor_wheel(version, {"yt_dlp/__init__.py": b""}))
        yield running


@pytest.fixture
async def now(tmp_path: Path, index: PackageIndex) -> AsyncIterator[Round]:
    made = Round(tmp_path, index)
    yield made
    await made.generations.close()


async def test_a_command_during_a_trial_is_not_refused_and_its_choice_stays(now: Round) -> None:
    def choose() -> list[str]:
        with now.store.changing():
            now.store.remove(OLDER)
            assert now.store.versions() == [OLDER], "the release that is tried was removed"
            now.store.choose(BUILT_IN)
        return []

    now.workshop.result = choose
    with pytest.raises(BusyError, match="during the trial"):
        await now.updater.look()
    assert (now.store.state().active, now.store.state().quarantined) == (BUILT_IN, {})
    now.workshop.result = list
    await now.updater.look()
    assert now.store.state().active == OLDER


async def test_trouble_of_the_machine_postpones_a_release_and_only_its_own_faults_quarantine_it(
    now: Round, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[str]:
        raise CannotTryError("no end within 120 s")

    caplog.set_level(logging.INFO)
    now.workshop.result = fail
    await now.updater.look()
    (record,) = [record for record in caplog.records if record.message == "extractor update postponed"]
    assert (record.__dict__["times"], record.__dict__["reason"]) == (1, "no end within 120 s")
    assert (now.store.state().quarantined, now.store.versions()) == ({}, [OLDER])
    # The same release is left alone for some minutes; a newer one is not, and takes its place on the disk.
    tries = now.workshop.tries
    await now.updater.look()
    assert now.workshop.tries == tries
    now.workshop.offered = (OLDER, NEWER)
    await now.updater.look()
    assert (now.workshop.tries, now.store.versions()) == (2 * tries, [NEWER])
    now.workshop.offered, now.workshop.result = (OLDER,), lambda: ["a name is missing"]
    await now.updater.look()
    assert (list(now.store.state().quarantined), now.store.versions()) == ([OLDER], [])


async def test_a_round_that_another_process_prevents_is_followed_by_another_one_soon(
    now: Round, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now.surroundings.obstacle = "a turn runs out in 7 s"
    running = asyncio.create_task(now.updater.run())
    try:
        await until(lambda: now.surroundings.turns >= 3, "three rounds have begun", poll_seconds=0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    refusals = [record for record in caplog.records if record.message == "extractor update not tried"]
    assert {record.__dict__["reason"] for record in refusals} == {"a turn runs out in 7 s"}


@pytest.mark.parametrize("code", ["raise MemoryError", "raise OSError(5, 'Input/output error')"])
async def test_a_trial_without_memory_or_disk_says_nothing_about_the_release(
    now: Round, index: PackageIndex, code: str
) -> None:
    index.add("yt-dlp", OLDER, extractor_wheel(OLDER, {"yt_dlp/__init__.py": code.encode()}))
    with now.store.changing():
        await now.workshop.fetch(OLDER)
    with pytest.raises(CannotTryError, match=r"MemoryError|Input/output error"):
        await Workshop.faults(now.workshop, OLDER)


async def test_a_young_release_is_used_at_once_only_if_the_release_in_use_is_the_cause(
    now: Round,
) -> None:
    now.workshop.uploaded_at = time.time() - 3600.0
    for cause in (None, Fault.YOUTUBE):
        now.surroundings.fault = cause
        await now.updater.look()
        assert now.workshop.tries == 0
    now.surroundings.fault = Fault.RELEASE
    await now.updater.look()
    assert (now.store.state().active, now.store.state().share) == (OLDER, 100)


async def test_a_trial_without_a_place_in_the_budget_is_postponed(tmp_path: Path, index: PackageIndex) -> None:
    now = Round(tmp_path, index, "rehearsal00")
    trial = await now.updater._canary.run(now.generations.current, now.generations.current)
    assert (trial.verdict.value, "is the hourly budget used up?" in trial.reason) == ("undecided", True)
    await now.generations.close()


async def test_a_trial_without_a_slot_uses_no_place_in_the_budget(tmp_path: Path, index: PackageIndex) -> None:
    now = Round(tmp_path, index, "rehearsal00")
    passage = UnusedPassage()
    slots = FairSlots(1, spare=0)
    canary = Canary(
        [VideoId("rehearsal00")],
        limits(),
        now.generations.identities,
        take_passage=lambda _: contextlib.nullcontext(passage),
        take_slot=slots.slot,
        wait_seconds=0.1,
    )
    async with slots.slot(ClientId("somebody")):
        trial = await canary.run(now.generations.current, now.generations.current)
    assert (trial.verdict.value, passage.is_begun) == ("undecided", False)
    await now.generations.close()


@pytest.mark.parametrize(("cause", "is_whole"), [(Fault.YOUTUBE, False), (Fault.RELEASE, True)])
async def test_only_a_pause_because_of_the_release_gives_all_conversions_to_a_new_one(
    tmp_path: Path, index: PackageIndex, cause: Fault, *, is_whole: bool
) -> None:
    surroundings = Surroundings()
    surroundings.fault = cause
    pipeline = Pipeline(Round(tmp_path, index).settings, limits(), tmp_path)
    pipeline.start_updates(surroundings)
    assert pipeline._generations.is_broken() is is_whole
