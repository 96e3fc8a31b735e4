"""Plays the encoder of a conversion that the fake converter holds, so that a test decides what listeners hear when."""

from pathlib import Path
from typing import Final

from tests.http.running_service import RunningService
from tests.stand.waiting import until
from ytmp3.converter.live_sound import LiveSound

HEADER: Final = bytes.fromhex("fffb9044")
"""The header of a frame: MPEG 1, layer III, 128 kbit/s, 44.1 kHz, joint stereo, no padding."""
FRAME_BYTES: Final = 417
PLACEHOLDER: Final = (HEADER + bytes(32) + b"Xing").ljust(FRAME_BYTES, b"\0")
"""The first frame that ffmpeg writes, which has no content before the end."""
INFO_BYTES: Final = 104
"""Size of the frame that names the duration: the lowest bit rate of this version, 32 kbit/s."""


def frames(count: int, first: int = 0) -> bytes:
    """Return `count` frames, each of which has its number in it."""
    numbers = range(first, first + count)
    return b"".join((HEADER + number.to_bytes(4)).ljust(FRAME_BYTES, b"\xaa") for number in numbers)


class PlayedEncoder:
    """Writes the file of one encoder."""

    def __init__(self, sound: LiveSound, path: Path) -> None:
        self.sound = sound
        self.path = path
        self.written = 0

    def begin(self, seconds: float | None = 3.0) -> None:
        self.path.write_bytes(b"")
        self.sound.begin(self.path, seconds=seconds, is_variable=False)
        self.path.write_bytes(PLACEHOLDER)
        self.written = 0

    def write(self, count: int) -> None:
        with self.path.open("ab") as file:
            file.write(frames(count, self.written))
        self.written += count
        self.sound.grow()


async def encoder_of(service: RunningService, video_id: str, folder: Path) -> PlayedEncoder:
    """Wait until a held video converts, and return its encoder."""
    await until(lambda: video_id in service.converter.running, "the conversion runs")
    return PlayedEncoder(service.converter.sounds[video_id], folder / f"{video_id}.mp3")
