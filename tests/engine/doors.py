"""A YouTube for the engine's tests that bans identities, and remembers when each was asked."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from tests.fakes import FakeConverter
from tests.virtual_time import seconds
from ytmp3.converter import Passage
from ytmp3.core.errors import ConversionError, FailureCode

CONVERSION_SECONDS = 10.0


class Doors(FakeConverter):
    """Refuses every conversion through a banned identity at once. One converter may serve several instances."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: defaultdict[str, list[float]] = defaultdict(list)
        self.refused: defaultdict[str, list[float]] = defaultdict(list)
        self.banned: dict[str, FailureCode] = {}
        self.ban_after: dict[str, int] = {}
        self.ban_seconds = 600.0
        self.slowing: set[str] = set()

    async def before(self, video_id: str, passage: Passage) -> None:
        name = passage.name
        self.asked[name].append(seconds())
        if len(self.asked[name]) == self.ban_after.get(name):
            self.banned[name] = FailureCode.BOT_CHECK
            asyncio.get_running_loop().call_later(self.ban_seconds, self.banned.pop, name)
        if name in self.banned:
            self.refused[name].append(seconds())
            raise ConversionError(self.banned[name], "as the test asked")
        if name in self.slowing:
            passage.slowed()
        await asyncio.sleep(CONVERSION_SECONDS)


def most_within(times: Sequence[float], window_seconds: float) -> int:
    """Return the largest number of times in any window."""
    return max((sum(begin <= at < begin + window_seconds for at in times) for begin in times), default=0)
