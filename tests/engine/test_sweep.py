"""The sweep removes no track that another installation, or a later write to the store, may still need."""

import asyncio
from pathlib import Path

from tests.engine.rig import Rig, engine
from ytmp3.core.errors import StoreDown
from ytmp3.engine.health import Health, Readiness
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.sweep import ACTIVE_SECONDS, FORGOTTEN_SECONDS, OTHER_INSTALLATION, Sweep
from ytmp3.storage.local import LocalShelf

VIDEO = "aaaaaaaaaaa"
SETTINGS = EngineSettings(
    workers=1, queue_capacity=1, max_retries=0, client_max_jobs=0, client_max_kept_jobs=0, stray_file_seconds=-1.0
)


class Signs:
    """The signs on a shelf that another installation may use, too."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.other_age: float | None = None

    async def leave(self, name: str) -> float | None:
        self.names.append(name)
        return self.other_age


class SharedShelf(LocalShelf):
    """A shelf with these signs."""

    def __init__(self, folder: Path, signs: Signs) -> None:
        super().__init__(folder)
        self._signs = signs

    async def sign(self, installation: str) -> float | None:
        return await self._signs.leave(installation)


def sweep_of(now: Rig, health: Health, signs: Signs) -> Sweep:
    return Sweep(SETTINGS, store=now.store, shelf=SharedShelf(now.shelf.folder, signs), health=health)


async def test_no_track_is_removed_for_a_week_after_the_last_sign_of_another_installation(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        stray = now.shelf.folder / ("0" * 34 + "-7.mp3")
        stray.write_bytes(b"of the other installation")
        signs, health = Signs(), Health()
        sweep, same_store = sweep_of(now, health, signs), sweep_of(now, health, signs)
        for age, error in (
            (1.0, OTHER_INSTALLATION),
            (ACTIVE_SECONDS + 1, None),
            (FORGOTTEN_SECONDS - 1, None),
        ):
            signs.other_age = age
            for _ in range(3):
                assert await sweep.sweep() == await same_store.sweep() == 0
            assert health.other_installation == error
        assert stray.exists()
        assert len(set(signs.names)) == 1, "all instances on one store have the same name"
        signs.other_age = FORGOTTEN_SECONDS + 1
        assert [await sweep.sweep() for _ in range(2)] == [0, 1]
        assert not stray.exists()


async def test_another_installation_degrades_the_health_and_is_named_there(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        health = now.parts.health
        await now.parts.watcher.watch()
        await now.parts.checks.disk.look()
        await now.parts.checks.tools.look()
        signs = Signs()
        for age, expected in ((1.0, Readiness.DEGRADED), (None, Readiness.OK)):
            signs.other_age = age
            await sweep_of(now, health, signs).sweep()
            assert health.readiness is expected
            assert ("installation" in health.checks) is (expected is Readiness.DEGRADED)


async def test_an_instance_on_another_shelf_than_the_others_removes_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        stray = now.shelf.folder / ("0" * 34 + "-7.mp3")
        stray.write_bytes(b"of another installation")
        health = Health(shelf_error="another bucket")
        sweep = Sweep(SETTINGS, store=now.store, shelf=now.shelf, health=health)
        assert [await sweep.sweep() for _ in range(3)] == [0, 0, 0]
        health.shelf_error = None
        assert [await sweep.sweep() for _ in range(2)] == [0, 1]


async def test_a_track_that_is_recorded_after_a_long_outage_of_the_store_is_kept(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        sweep = Sweep(SETTINGS, store=now.store, shelf=now.shelf, health=Health())
        now.store.broken["finish"] = StoreDown("no answer")
        job = await now.submit(VIDEO)
        while not now.tracks():
            await asyncio.sleep(0.1)
        assert await sweep.sweep() == 0, "the track is published, and not recorded yet"
        now.store.broken.clear()
        await now.ended(job)
        assert await sweep.sweep() == 0
        await now.check_completed(job)
