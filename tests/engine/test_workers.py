"""The workers: how many run at once, and whose conversion is next."""

from pathlib import Path

from tests.engine.rig import engine, video
from tests.virtual_time import settled
from ytmp3.core.client import Client
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Status

VIDEO = video(1)


async def test_no_more_conversions_run_at_once_than_there_are_workers(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=3, queue_capacity=20) as now:
        holds = [now.converter.hold(video(number)) for number in range(10)]
        jobs = [await now.submit(video(number)) for number in range(10)]
        await settled()
        assert len(now.converter.running) == 3
        for hold in holds:
            hold.set()
        for job in jobs:
            await now.ended(job)
        assert now.converter.most_at_once == 3


async def test_ninety_conversions_of_one_client_do_not_delay_ten_of_others(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=200) as now:
        await now.running(VIDEO)
        for number in range(2, 92):
            await now.submit(video(number), Client(owner=ClientId("greedy")))
        few = [video(number) for number in range(100, 110)]
        jobs = [await now.submit(video_id, Client(owner=ClientId(f"client of {video_id}"))) for video_id in few]
        now.converter.hold(VIDEO).set()
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        places = [now.converter.order.index(video_id) for video_id in few]
        assert max(places) <= 12


async def test_a_bug_in_an_attempt_costs_no_worker(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.store.broken["claim"] = ZeroDivisionError()
        lost = await now.submit(VIDEO)
        await settled()
        now.store.broken.clear()
        assert (await now.ended(await now.submit(video(2)))).status is Status.COMPLETED
        # The lease of the other one is not renewed any more, and runs out.
        assert (await now.ended(lost)).status is Status.COMPLETED
