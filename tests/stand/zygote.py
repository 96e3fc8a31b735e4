"""Starts a zygote on a machine that may be busy with other work."""

import contextlib
from typing import Final

from ytmp3.converter.sandbox.protocol import Ready
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError

STARTS: Final = 10
"""How often it is started at most. A start takes 0.6 s on an idle machine; on a busy one it may take longer than the
20 s that the server waits.
"""


async def until_ready(spawner: Spawner) -> Ready:
    """Return once a zygote is ready. Raises ZygoteError if it still does not start after several attempts."""
    for _ in range(STARTS):
        with contextlib.suppress(ZygoteError):
            return await spawner.ready()
    return await spawner.ready()
