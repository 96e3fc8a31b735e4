"""Instances on one store must have the same folder of tracks; where they do not, `/health` says what to do."""

import time
from pathlib import Path
from typing import Final

from msgspec import structs

from tests.contract.harness import Harness, RedisHarness
from tests.fakes import FakeConverter
from ytmp3.core.ids import InstanceId
from ytmp3.engine.checks import Checks, DiskCheck, ToolsCheck
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.sweep import OTHER_INSTALLATION, Sweep
from ytmp3.engine.watcher import OTHER_SHELF, Watcher
from ytmp3.jobstore import JobStore
from ytmp3.storage.files import Files
from ytmp3.storage.local import LocalShelf
from ytmp3.storage.scratch import Scratch

SETTINGS: Final = EngineSettings(workers=1, queue_capacity=1, max_retries=0, client_max_jobs=0)


async def shelf_at(folder: Path) -> LocalShelf:
    shelf = LocalShelf(folder / "tracks")
    await shelf.open()
    return shelf


async def checked(store: JobStore, folder: Path) -> Health:
    """Return the health of an instance after one check of its shelf."""
    health, events = Health(), Events()
    files = Files(shelf=await shelf_at(folder), scratch=Scratch(folder / "scratch", instance=InstanceId("a")))
    checks = Checks(
        DiskCheck(SETTINGS, files=files, health=health, clock=time.monotonic),
        ToolsCheck(converter=FakeConverter(), health=health, clock=time.monotonic),
    )
    watcher = Watcher(
        SETTINGS,
        store=store,
        shelf=files.shelf,
        checks=checks,
        health=health,
        events=events,
        clock=time.monotonic,
    )
    await watcher.check_shelf()
    return health


async def test_a_folder_has_one_mark_which_no_sweep_removes(tmp_path: Path) -> None:
    one, again, other = [await shelf_at(tmp_path / name) for name in ("one", "one", "other")]
    assert await one.mark() == await again.mark()
    assert await one.mark() != await other.mark()
    assert await one.names(older_than_seconds=-1.0) == []
    assert [path.name for path in one.folder.iterdir()] == [".shelf"]


async def test_instances_with_different_folders_are_unready_and_say_what_to_do(
    redis_harness: RedisHarness, tmp_path: Path
) -> None:
    a, b, c = [await redis_harness.open(name) for name in ("a", "b", "c")]
    assert (await checked(a, tmp_path / "shared")).shelf_error is None
    assert (await checked(b, tmp_path / "shared")).shelf_error is None
    strange = await checked(c, tmp_path / "own")
    assert strange.checks["storage"].detail == OTHER_SHELF
    assert strange.fault == OTHER_SHELF
    assert not strange.is_ready
    assert (await checked(a, tmp_path / "shared")).shelf_error is None


async def test_a_folder_that_no_instance_uses_any_more_can_be_replaced(
    redis_harness: RedisHarness, tmp_path: Path
) -> None:
    store = await redis_harness.open("a")
    assert await store.agrees_on_shelf("old")
    assert not await store.agrees_on_shelf("new")
    assert redis_harness.seconds_until_shelf_is_free() <= 60.0
    redis_harness.forget_shelf()
    assert await store.agrees_on_shelf("new")


async def test_every_store_agrees_with_a_single_instance(harness: Harness, tmp_path: Path) -> None:
    store = await harness.open("a")
    assert store.is_shared == harness.shared
    assert await store.agrees_on_shelf("mark")
    assert (await checked(store, tmp_path)).shelf_error is (None if not harness.shared else OTHER_SHELF)


async def test_installations_with_one_folder_and_two_prefixes_remove_nothing_of_each_other(
    redis_harness: RedisHarness, tmp_path: Path
) -> None:
    settings = structs.replace(SETTINGS, stray_file_seconds=-1.0)
    shelf = await shelf_at(tmp_path)
    own = tmp_path / "tracks" / ("0" * 34 + "-7.mp3")
    own.write_bytes(b"a track of the first installation, without a record in the second one")
    first = redis_harness.with_prefix("")
    second = redis_harness.with_prefix("second")
    try:
        sweeps, states = [], []
        for harness in (first, second):
            states.append(Health())
            sweeps.append(Sweep(settings, store=await harness.open(), shelf=shelf, health=states[-1]))
        # Before the second installation exists, the first one looks for files without a record, and finds one.
        assert await sweeps[0].sweep() == 0
        for _ in range(3):
            assert [await sweep.sweep() for sweep in reversed(sweeps)] == [0, 0]
        assert own.exists()
        assert {state.other_installation for state in states} == {OTHER_INSTALLATION}
        assert not states[1].checks["installation"].ok
    finally:
        await first.close()
        await second.close()
