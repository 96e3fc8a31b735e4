"""How long a listener may take for the rest of a conversion that has ended, and whose file it still holds open."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from tests.http.played_encoder import FRAME_BYTES, PLACEHOLDER, frames
from tests.virtual_time import seconds
from ytmp3.converter.live_sound import PIECE_BYTES, LiveSound, SoundReader
from ytmp3.http.download import STALL_SECONDS
from ytmp3.http.listen import REST_SLACK_SECONDS, UNKNOWN_SECONDS, pass_on
from ytmp3.threads import Threads

PIECES = 100
SOUND_SECONDS = 409.6
"""The duration of PIECES pieces at 128 kbit/s."""


async def reader_of(folder: Path, duration_seconds: float | None) -> tuple[LiveSound, SoundReader]:
    """Return a sound, all of which is written, and a listener that has read nothing yet."""
    path = folder / "sound.mp3"
    path.write_bytes(PLACEHOLDER + frames(PIECES * PIECE_BYTES // FRAME_BYTES))
    sound = LiveSound()
    sound.begin(path, seconds=duration_seconds, is_variable=False)
    reader = await sound.reader(Threads("listen", 1))
    assert reader is not None
    path.unlink()
    return sound, reader


class Player:
    """A client that takes one piece each `pause_seconds`, and remembers when it took it."""

    def __init__(self, pause_seconds: float) -> None:
        self._pause_seconds = pause_seconds
        self.taken_at: list[float] = []

    async def take(self, _: bytes) -> None:
        await asyncio.sleep(self._pause_seconds)
        self.taken_at.append(seconds())


@pytest.mark.parametrize("duration_seconds", [SOUND_SECONDS, None])
async def test_a_listener_that_reads_a_piece_a_minute_does_not_hold_the_file_of_a_finished_conversion(
    tmp_path: Path, duration_seconds: float | None
) -> None:
    sound, reader = await reader_of(tmp_path, duration_seconds)
    player = Player(STALL_SECONDS - 1)
    passing = asyncio.create_task(pass_on(reader, player.take, stall_seconds=STALL_SECONDS))
    # While the conversion runs, the file is there in any case.
    await asyncio.sleep(10 * STALL_SECONDS)
    assert not passing.done()
    sound.confirm()
    ended_at = seconds()
    with pytest.raises(TimeoutError):
        await passing
    reader.close()
    limit = (duration_seconds or UNKNOWN_SECONDS) + REST_SLACK_SECONDS
    assert ended_at + limit <= seconds() <= ended_at + limit + STALL_SECONDS
    assert max(after - before for before, after in pairwise(player.taken_at)) < STALL_SECONDS, "it never stalled"


async def test_a_player_that_reads_as_fast_as_it_plays_hears_all_of_the_sound(tmp_path: Path) -> None:
    sound, reader = await reader_of(tmp_path, SOUND_SECONDS)
    sound.confirm()
    player = Player(SOUND_SECONDS / PIECES)
    await pass_on(reader, player.take, stall_seconds=STALL_SECONDS)
    reader.close()
    assert len(player.taken_at) >= PIECES
