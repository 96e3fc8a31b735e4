"""The scratch folders of several instances on one volume."""

import asyncio
import shutil
from pathlib import Path

from tests.stand.waiting import PATIENCE_SECONDS
from ytmp3.core.ids import InstanceId
from ytmp3.storage.scratch import Scratch

STARTS = 60


async def test_a_starting_instance_keeps_its_folder_while_others_sweep(tmp_path: Path) -> None:
    root, ended = tmp_path / "scratch", asyncio.Event()
    other = Scratch(root, instance=InstanceId("other"))
    await other.open()

    async def sweep() -> None:
        while not ended.is_set():
            await other.sweep()

    sweeps = [asyncio.create_task(sweep()) for _ in range(4)]
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for number in range(STARTS):
                starting = Scratch(root, instance=InstanceId(f"instance-{number}"))
                await starting.open()
                assert (await starting.new_folder("attempt")).is_dir()
                await starting.close()
    finally:
        ended.set()
        await asyncio.gather(*sweeps)
        await other.close()


async def test_the_folder_of_a_dead_instance_is_removed(tmp_path: Path) -> None:
    dead, other = (Scratch(tmp_path / "scratch", instance=InstanceId(name)) for name in ("dead", "other"))
    await dead.open()
    folder = await dead.new_folder("attempt")
    await other.open()
    assert folder.is_dir()
    dead.release_lock()
    await other.sweep()
    assert not folder.parent.exists()
    await other.close()


async def test_a_lasting_folder_that_disappeared_is_made_again_under_the_same_lock(tmp_path: Path) -> None:
    scratch, other = (Scratch(tmp_path / "scratch", instance=InstanceId(name)) for name in ("a", "b"))
    await scratch.open()
    lasting = await scratch.lasting_folder("tools")
    shutil.rmtree(lasting)
    assert scratch.write_probe().exists()
    assert lasting.is_dir()
    await other.open()
    assert lasting.is_dir(), "another instance sees the lock"
    await scratch.close()
    await other.close()
