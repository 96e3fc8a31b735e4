"""A slot of a semaphore that can be given back early: an encoder that waits for a slow download needs no core."""

import asyncio


class EncodeSlot:
    """One permit of the semaphore of encoders. It may be released early, and is released only once."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._is_held = False

    async def acquire(self) -> None:
        """Wait for a free slot, in order of arrival."""
        await self._slots.acquire()
        self._is_held = True

    def release(self) -> None:
        """Give the slot to the next waiting conversion. Does nothing if it was released before."""
        if self._is_held:
            self._is_held = False
            self._slots.release()
