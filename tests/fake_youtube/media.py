"""The bodies that the media server sends: made once with the ffmpeg of the imageio-ffmpeg wheel, then kept.

The sound is a sine with noise of a fixed seed: what costs an encoder as much as music does. Several processes may make
the same file at the same time: each writes a name of its own and renames.
"""

import asyncio
import mmap
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import imageio_ffmpeg

from .kinds import Media

# Part of the folder's name: raise it when a recipe below changes.
VERSION: Final = 2
RANDOM_BYTES: Final = 64_000

_SOUND: Final = (
    "sine=frequency=330:sample_rate=48000:duration={seconds}[a];"
    "anoisesrc=color=pink:amplitude=0.25:sample_rate=48000:seed=7:duration={seconds}[b];"
    "[a][b]amix=inputs=2:normalize=0,aformat=channel_layouts=stereo"
)
_OPUS: Final = ("-c:a", "libopus", "-b:a", "128k", "-f", "webm")
_AAC: Final = ("-c:a", "aac", "-b:a", "128k", "-ar", "44100")
_FRAGMENTED: Final = (*_AAC, "-movflags", "+dash+global_sidx", "-frag_duration", "5000000", "-f", "mp4")
_RECIPES: Final[dict[Media, tuple[int, tuple[str, ...]]]] = {
    Media.SHORT: (4, _OPUS),
    Media.TEN: (10, _OPUS),
    Media.CLIP: (30, _OPUS),
    Media.SIXTY: (60, _OPUS),
    Media.SONG: (240, _OPUS),
    Media.M4A_SHORT: (4, _FRAGMENTED),
    Media.M4A_CLIP: (30, _FRAGMENTED),
    Media.M4A_SONG: (240, _FRAGMENTED),
    Media.INDEX_AT_END: (4, (*_AAC, "-f", "mp4")),
    Media.MP3: (4, ("-c:a", "libmp3lame", "-b:a", "192k", "-f", "mp3")),
    Media.MUXED: (4, (*_AAC, "-c:v", "libx264", "-preset", "ultrafast", "-movflags", "+faststart", "-f", "mp4")),
}
_HALVES: Final = {Media.HALF: Media.CLIP, Media.HALF_M4A: Media.M4A_CLIP}
_MIME: Final = {
    "webm": 'audio/webm; codecs="opus"',
    "mp4": 'audio/mp4; codecs="mp4a.40.2"',
    "mp3": 'audio/mpeg; codecs="mp3"',
}


def seconds_of(media: Media) -> int:
    """Return the true length; 0 for what is no media."""
    return _RECIPES[_HALVES.get(media, media)][0] if media in _RECIPES or media in _HALVES else 0


def mime_of(media: Media) -> str:
    """Return the type as YouTube writes it; what is no media is called WebM."""
    recipe = _RECIPES.get(_HALVES.get(media, media))
    if media is Media.MUXED:
        return 'video/mp4; codecs="avc1.42001E, mp4a.40.2"'
    return _MIME["webm" if recipe is None else recipe[1][-1]]


def _name(media: Media) -> str:
    return f"{media}.{_RECIPES[media][1][-1]}"


def _ffmpeg(arguments: list[str]) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=300)


def _make(media: Media, path: Path) -> None:
    seconds, output = _RECIPES[media]
    picture = ["-f", "lavfi", "-i", f"testsrc=size=640x360:rate=25:duration={seconds}"] if media is Media.MUXED else []
    sound = ["-f", "lavfi", "-i", _SOUND.format(seconds=seconds)]
    _ffmpeg([*picture, *sound, "-map_metadata", "-1", "-fflags", "+bitexact", *output, str(path)])


def _make_picture(size: str, path: Path) -> None:
    codec = ["-c:v", "libwebp", "-f", "webp"] if path.suffix == ".webp" else ["-q:v", "4", "-f", "mjpeg"]
    _ffmpeg(["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=1", "-frames:v", "1", *codec, str(path)])


def default_cache() -> Path:
    return Path(tempfile.gettempdir()) / f"ytmp3-fake-youtube-{VERSION}"


class Library:
    """Bodies by name, mapped into memory: many connections share one copy."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._bodies: dict[str, memoryview] = {
            Media.RANDOM: memoryview(random.Random(7).randbytes(RANDOM_BYTES)),
            Media.EMPTY: memoryview(b""),
            Media.HTML: memoryview(b"<!doctype html><title>Sorry</title><p>Unusual traffic from your network.\n" * 40),
        }
        self._making: dict[str, asyncio.Task[memoryview]] = {}
        cache.mkdir(parents=True, exist_ok=True)

    async def media(self, media: Media) -> memoryview:
        """Return a body, made first if need be: up to 4 s for a song on a busy machine."""
        if half := _HALVES.get(media):
            whole = await self.media(half)
            return whole[: len(whole) // 2]
        if media in self._bodies:
            return self._bodies[media]
        return await self._kept(media, _name(media))

    async def picture(self, size: str, extension: str) -> memoryview:
        name = f"{size}.{extension}"
        return self._bodies[name] if name in self._bodies else await self._kept(name, name)

    def begin(self, media: Media) -> None:
        """Start making a body that will be asked for soon."""
        media = _HALVES.get(media, media)
        if media not in self._bodies:
            self._task(media, _name(media))

    def _task(self, key: str, name: str) -> asyncio.Task[memoryview]:
        if key not in self._making:
            self._making[key] = asyncio.create_task(asyncio.to_thread(self._load, key, self._cache / name), name=name)
        return self._making[key]

    async def _kept(self, key: str, name: str) -> memoryview:
        # A client that gives up does not stop the encoder: the next one needs the same file.
        self._bodies[key] = await asyncio.shield(self._task(key, name))
        return self._bodies[key]

    def _load(self, key: str, path: Path) -> memoryview:
        if not path.exists():
            draft = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
            if key in _RECIPES:
                _make(Media(key), draft)
            else:
                _make_picture(path.stem, draft)
            draft.replace(path)
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
