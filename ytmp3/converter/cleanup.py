"""Cleanups that a cancellation does not abort: what they leave behind would stay until the service restarts."""

import asyncio
from collections.abc import Coroutine


async def to_its_end(cleanup: Coroutine[object, object, object]) -> None:
    """Wait for a cleanup to end, even if the caller is cancelled meanwhile. Use it in a `finally`.

    Raises:
        CancelledError: the caller was cancelled, and the cleanup has ended since.
        Exception: that of the cleanup.
    """
    cleaning = asyncio.create_task(cleanup, name="cleanup")
    cancelled: asyncio.CancelledError | None = None
    while not cleaning.done():
        try:
            await asyncio.wait([cleaning])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    cleaning.result()
