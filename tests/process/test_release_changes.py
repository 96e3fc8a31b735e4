"""Servers change between releases of yt-dlp, whatever a command, an update or another server does meanwhile."""

import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stand.package_index import (
    SOLVER,
    PackageIndex,
    extractor_files,
    extractor_wheel,
    package_index,
    solver_files,
    wheel,
)
from tests.stand.releases import settings_of, use_untried
from tests.stand.waiting import until
from ytmp3.converter.generations import Generations
from ytmp3.converter.releases.locks import locked
from ytmp3.converter.releases.store import ReleaseStore
from ytmp3.core.errors import FailureCode
from ytmp3.core.probation import MAX_BLAMES, MAX_REFUSED
from ytmp3.core.release import BUILT_IN_NAME
from ytmp3.core.release_state import BUILT_IN
from ytmp3.core.rollout import WHOLE

OLD = "2020.1.1"
"""Older than every installed release."""
GOOD, LATER = "2026.11.1", "2026.11.12"


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with package_index() as running:
        for version in (GOOD, LATER):
            running.add("yt-dlp", version, extractor_wheel(version, extractor_files(version)))
        running.add("yt-dlp-ejs", SOLVER, wheel("yt-dlp-ejs", SOLVER, solver_files()))
        yield running


async def test_a_restarted_server_can_still_go_back_to_the_release_before(tmp_path: Path, index: PackageIndex) -> None:
    folder = tmp_path / "extractor"
    await use_untried(folder, index, GOOD)
    store = ReleaseStore(folder)
    store.choose(GOOD, is_new=True)
    (tmp_path / "work").mkdir()
    generations = Generations(settings_of(folder, index), tmp_path / "work", poll_seconds=0.05)
    other = Generations(settings_of(folder, index), tmp_path / "work", poll_seconds=0.05)
    try:
        await generations.open()
        await other.open()
        of_other = other.current
        new = generations.current
        before = generations.before(new)
        assert before is not None
        assert (new.program.version, before.program.version) == (GOOD, BUILT_IN)
        for _ in range(MAX_REFUSED):
            assert generations.may_repeat(new, FailureCode.BOT_CHECK)
            generations.repeated_in_vain(new, FailureCode.BOT_CHECK)
        assert not generations.may_repeat(new, FailureCode.BOT_CHECK)
        generations.ended(before, is_good=True)
        assert generations.may_repeat(new, FailureCode.BOT_CHECK)
        for _ in range(MAX_BLAMES):
            generations.blame(new, FailureCode.EXTRACTOR_BROKEN)
        assert generations.current is before
        await until(lambda: store.state().active == BUILT_IN, "the state names the release before", poll_seconds=0.01)
        assert GOOD in store.state().note
        await before.tools.spawner.ready()
        await until(lambda: other.current is not of_other, "the other server follows", poll_seconds=0.01)
        # What still runs there with the release that was given up is repeated, too, if it fails.
        assert other.before(of_other) is other.current
    finally:
        await generations.close()
        await other.close()


async def test_a_release_that_is_given_up_during_an_update_is_quarantined_after_it(
    tmp_path: Path, index: PackageIndex
) -> None:
    folder = tmp_path / "extractor"
    await use_untried(folder, index, GOOD)
    store = ReleaseStore(folder)
    store.choose(BUILT_IN)
    store.begin(GOOD, WHOLE)
    (tmp_path / "work").mkdir()
    servers = [Generations(settings_of(folder, index), tmp_path / "work", poll_seconds=0.05) for _ in range(2)]
    generations, other = servers
    try:
        await generations.open()
        with store.changing():
            for _ in range(MAX_BLAMES):
                generations.blame(generations.current, FailureCode.EXTRACTOR_BROKEN)
            # The update that holds the lock ends with a release whose folder is missing, so it is given up as well.
            store.begin(LATER, 25)
            await other.open()
            assert other.established.name == GOOD
        await until(lambda: set(store.state().quarantined) == {GOOD, LATER}, "both are quarantined", poll_seconds=0.01)
        await until(lambda: store.state().active == BUILT_IN, "the release before both is used", poll_seconds=0.01)
        for server in servers:
            await until(lambda: server.established.name == BUILT_IN_NAME, "the servers follow", poll_seconds=0.01)  # noqa: B023
    finally:
        for server in servers:
            await server.close()


async def test_a_share_that_used_a_release_uses_the_one_before_when_another_server_gives_it_up(
    tmp_path: Path, index: PackageIndex
) -> None:
    folder = tmp_path / "extractor"
    for version in (GOOD, LATER):
        await use_untried(folder, index, version)
    store = ReleaseStore(folder)
    store.choose(BUILT_IN)
    given_up = store.begin(GOOD, WHOLE)
    store.begin(LATER, 25)
    (tmp_path / "work").mkdir()
    generations = Generations(settings_of(folder, index), tmp_path / "work", poll_seconds=0.05)
    try:
        await generations.open()
        assert (generations.current.name, generations.established.name) == (LATER, GOOD)
        store.give_up(given_up.serial, GOOD, BUILT_IN, "given up")
        await until(lambda: generations.established.name == BUILT_IN_NAME, "the server follows", poll_seconds=0.01)
        assert (generations.current.name, generations.release.share) == (LATER, 25)
    finally:
        await generations.close()


async def test_a_newer_built_in_release_takes_the_place_of_an_update_but_not_of_a_choice(
    tmp_path: Path, index: PackageIndex, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = ReleaseStore(tmp_path / "extractor")
    (tmp_path / "work").mkdir()
    for is_choice, in_use in ((True, OLD), (False, BUILT_IN)):
        with store.changing():
            if is_choice:
                store.choose(OLD)
            else:
                store.begin(OLD, WHOLE)
        generations = Generations(settings_of(tmp_path / "extractor", index), tmp_path / "work")
        try:
            await generations.open()
        finally:
            await generations.close()
        assert (store.state().active, generations.current.program.version) == (in_use, in_use)
    assert [each.message for each in caplog.records].count("extractor release superseded") == 1


async def test_what_runs_with_a_release_that_is_left_during_the_change_is_still_repeated(
    tmp_path: Path, index: PackageIndex
) -> None:
    folder = tmp_path / "extractor"
    for version in (GOOD, LATER):
        await use_untried(folder, index, version)
    store = ReleaseStore(folder)
    store.choose(BUILT_IN)
    left = store.begin(LATER, WHOLE)
    (tmp_path / "work").mkdir()
    generations = Generations(settings_of(folder, index), tmp_path / "work", poll_seconds=0.05)
    try:
        await generations.open()
        of_left = generations.current
        assert not of_left.program.refused
        # The server waits for this lock while it changes to the release to which another server has returned.
        manifest = folder / GOOD / "manifest.json"
        lock = locked(manifest, fcntl.LOCK_EX)
        store.give_up(left.serial, LATER, GOOD, "given up")
        inode = f":{manifest.stat().st_ino} "
        await until(lambda: is_awaited(inode), "the server waits for the lock", poll_seconds=0.01)
        for _ in range(MAX_BLAMES):
            generations.blame(of_left, FailureCode.EXTRACTOR_BROKEN)
        assert generations.current is not of_left
        os.close(lock)
        await until(lambda: generations.current.name == GOOD, "the server has changed", poll_seconds=0.01)
        assert generations.before(of_left) is generations.current
    finally:
        await generations.close()


def is_awaited(inode: str) -> bool:
    """Return whether a process waits for the lock of a file, by the kernel's table of locks."""
    return any(inode in line and "->" in line for line in Path("/proc/locks").read_text().splitlines())
