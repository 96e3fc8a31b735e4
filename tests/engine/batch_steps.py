"""What tests of batches do on the engine's rig: create one, let time pass, and read it."""

import asyncio

from tests.engine.rig import SOMEONE, Rig, video
from tests.virtual_time import settled
from ytmp3.core.batch import Line
from ytmp3.core.client import Client
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.engine.batch_orders import BatchOrder
from ytmp3.engine.batches import BatchState
from ytmp3.engine.feeder import FEED_SECONDS

ORDER = BatchOrder(recipe=DEFAULT_RECIPE)


def videos(count: int, first: int = 1) -> list[str]:
    return [video(number) for number in range(first, first + count)]


async def batch_of(rig: Rig, links: list[str], client: Client = SOMEONE) -> str:
    return (await rig.parts.batches.create([Line(link=link) for link in links], ORDER, client)).batch.batch_id


async def state(rig: Rig, batch_id: str) -> BatchState:
    return await rig.parts.batches.read(batch_id, None)


async def turn(rig: Rig) -> None:
    """Do one turn of the feeder, and let everything that follows happen."""
    await rig.parts.feeder.feed()
    await settled()


async def ended(rig: Rig, batch_id: str) -> BatchState:
    """Let time pass until a batch has ended."""
    for _ in range(2000):
        await turn(rig)
        now = await state(rig, batch_id)
        if now.batch.completed_at is not None:
            return now
        await rig.parts.janitor.adopt()
        await asyncio.sleep(FEED_SECONDS)
    raise AssertionError("the batch does not end")
