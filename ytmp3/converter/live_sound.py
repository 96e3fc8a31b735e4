"""The sound of a conversion that still runs: clients hear it while the encoder writes it.

`LiveSound` holds the progress of one attempt. The engine makes one for each attempt. The converter reports what the
encoder does (see `SoundProgress`), and the engine reports the end of the attempt. A `SoundReader` serves one listener.
It reads the encoder's file at its own pace, so a slow listener costs no memory, and delays neither the encoder nor
another listener. The file may be removed meanwhile: the open descriptor keeps its content.

The rule: a listener never gets the sound of two encoders as one stream, nor the end of a stream whose conversion has
failed. In both cases `SoundLostError` is raised. The file is checked (every frame, the duration) only at the end of the
conversion, so a reader returns the end only after that.

All calls of the file run in threads, because the disk may hang.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

from ytmp3.converter.audio.info_frame import HEAD_BYTES, split_head
from ytmp3.threads import Threads

PIECE_BYTES: Final = 64 * 1024
"""Most bytes that are read at once: 2.7 s of sound at 192 kbit/s. Each listener may hold this many in memory."""


class SoundLostError(Exception):
    """The sound ends early: the encoder failed or began again, or its conversion ended without a track."""


class LiveSound:
    """The progress of one attempt's sound. All methods are called on the event loop."""

    def __init__(self) -> None:
        self.path: Path | None = None
        """The file that the encoder writes; None while there is none."""
        self.seconds: float | None = None
        """The announced duration of the sound; None if it is not known."""
        self.is_variable = False
        """Whether the bit rate varies."""
        self.number = 0
        """Counts the encoders of the attempt. Each writes the sound from its beginning, perhaps in another form."""
        self.is_confirmed = False
        """Whether the sound was verified and the track is recorded. After that, the file does not change any more."""
        self.has_failed = False
        """Whether the attempt ended without a recorded track."""
        self._change = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether the attempt has ended."""
        return self.is_confirmed or self.has_failed

    @property
    def change(self) -> asyncio.Event:
        """An event that is set at the next change. A caller takes it before it reads, so that it misses no change."""
        return self._change

    def begin(self, path: Path, *, seconds: float | None, is_variable: bool) -> None:
        """Record that an encoder begins to write a file; see SoundProgress."""
        self.path, self.seconds, self.is_variable = path, seconds, is_variable
        self.number += 1
        self._changed()

    def grow(self) -> None:
        """See SoundProgress."""
        self._changed()

    def withdraw(self) -> None:
        """See SoundProgress."""
        self.path = None
        self.number += 1
        self._changed()

    def confirm(self) -> None:
        """Record that the track is published and recorded."""
        self.is_confirmed = True
        self._changed()

    def end(self) -> None:
        """Record the end of the attempt. If it was not confirmed, it has failed."""
        self.has_failed = not self.is_confirmed
        self._changed()

    async def reader(self, threads: Threads) -> "SoundReader | None":
        """Wait until there is sound, and return a new reader; None if the attempt ends before that.

        The caller closes the reader.

        If the caller is cancelled, no descriptor is left open.
        """
        while True:
            change = self._change
            if self.has_ended:
                return None
            reader = await self._opened(threads)
            if reader is not None:
                return reader
            await change.wait()

    async def _opened(self, threads: Threads) -> "SoundReader | None":
        number, path = self.number, self.path
        if path is None:
            return None
        try:
            descriptor = await threads.descriptor(os.open, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None  # the encoder has not made it yet, or the attempt has just ended
        try:
            split = split_head(
                await threads.run(os.pread, descriptor, HEAD_BYTES, 0),
                seconds=self.seconds,
                is_variable=self.is_variable,
            )
        except (OSError, ValueError):
            split = None
        except BaseException:
            threads.close(descriptor)
            raise
        if split is None or number != self.number:
            threads.close(descriptor)
            return None
        return SoundReader(self, descriptor, threads, head=split[0], position=split[1])

    def _changed(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()


class SoundReader:
    """Reads the sound of one encoder for one listener, from its first frame on."""

    def __init__(self, sound: LiveSound, descriptor: int, threads: Threads, *, head: bytes, position: int) -> None:
        self._sound = sound
        self._number = sound.number
        self._descriptor = descriptor
        self._threads = threads
        self._head = head
        self._position = position

    async def next_piece(self) -> bytes:
        """Wait for more sound, and return at most PIECE_BYTES of it; nothing once the whole track was returned.

        Raises:
            SoundLostError: the sound does not go on.
            OSError: the file cannot be read.
        """
        if self._head:
            head, self._head = self._head, b""
            return head
        while True:
            change, is_last = self._sound.change, self._sound.is_confirmed
            self._check()
            piece = await self._threads.run(os.pread, self._descriptor, PIECE_BYTES, self._position)
            # Checked again, because the next encoder may have written into the same file meanwhile.
            self._check()
            self._position += len(piece)
            if piece or is_last:
                return piece
            await change.wait()

    @property
    def seconds(self) -> float | None:
        """The announced duration of the sound; None if it is not known."""
        return self._sound.seconds

    @property
    def is_confirmed(self) -> bool:
        """Whether the conversion has succeeded, so that all of the sound can be read now."""
        return self._sound.is_confirmed

    def close(self) -> None:
        """Close the file. A thread may still read it, for a caller that was cancelled: the result is dropped."""
        self._threads.close(self._descriptor)

    def _check(self) -> None:
        if self._sound.has_failed or self._sound.number != self._number:
            raise SoundLostError
