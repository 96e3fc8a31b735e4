"""The bodies that the media server sends: made once with the ffmpeg of the imageio-ffmpeg wheel, then kept.

The ordinary sound is a sine with noise of a fixed seed, which costs an encoder as much as music does. The tracks that a
test has to tell apart are one pure tone each. Of several processes that need the same file, one makes it.
"""

import asyncio
import dataclasses
import fcntl
import mmap
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import imageio_ffmpeg

from .behaviour import Media

# Part of the folder's name: raise it when a recipe below changes.
VERSION: Final = 3
RANDOM_BYTES: Final = 64_000

_NOISY: Final = (
    "sine=frequency=330:sample_rate=48000:duration={seconds}[a];"
    "anoisesrc=color=pink:amplitude=0.25:sample_rate=48000:seed=7:duration={seconds}[b];"
    "[a][b]amix=inputs=2:normalize=0,aformat=channel_layouts=stereo"
)
_TONE: Final = "sine=frequency={hertz}:sample_rate=48000:duration={seconds},aformat=channel_layouts=stereo"
_FOUR_CHANNELS: Final = ("-af", "pan=ambisonic 1|c0=c0|c1=c1|c2=c0|c3=c1")
_OPUS: Final = ("-c:a", "libopus", "-b:a", "128k", "-f", "webm")
_AMBISONIC: Final = (*_FOUR_CHANNELS, "-c:a", "libopus", "-mapping_family", "2", "-b:a", "256k", "-f", "webm")
_AAC: Final = ("-c:a", "aac", "-b:a", "128k", "-ar", "44100")
_IN_FRAGMENTS: Final = ("-movflags", "+dash+global_sidx", "-frag_duration", "5000000", "-f", "mp4")
_FRAGMENTED: Final = (*_AAC, *_IN_FRAGMENTS)
_SIX_CHANNELS: Final = ("-ac", "6", "-b:a", "384k")
# The tables of these codecs are known only after their first packets, so they are not written in fragments.
_INDEX_FIRST: Final = ("-movflags", "+faststart", "-f", "mp4")


@dataclasses.dataclass(frozen=True, slots=True)
class _Recipe:
    seconds: int
    output: tuple[str, ...]
    hertz: int | None = None  # noise and a sine when None


_RECIPES: Final[dict[Media, _Recipe]] = {
    Media.SHORT: _Recipe(4, _OPUS),
    Media.TEN: _Recipe(10, _OPUS),
    Media.CLIP: _Recipe(30, _OPUS),
    Media.SIXTY: _Recipe(60, _OPUS),
    Media.SONG: _Recipe(240, _OPUS),
    Media.MIX: _Recipe(1200, _OPUS),
    Media.HOUR: _Recipe(3600, _OPUS),
    Media.M4A_SHORT: _Recipe(4, _FRAGMENTED),
    Media.M4A_CLIP: _Recipe(30, _FRAGMENTED),
    Media.M4A_SONG: _Recipe(240, _FRAGMENTED),
    Media.INDEX_AT_END: _Recipe(4, (*_AAC, "-f", "mp4")),
    Media.MP3: _Recipe(4, ("-c:a", "libmp3lame", "-b:a", "192k", "-f", "mp3")),
    Media.MUXED: _Recipe(4, (*_AAC, "-c:v", "libx264", "-preset", "ultrafast", "-movflags", "+faststart", "-f", "mp4")),
    Media.ORIGINAL_OPUS: _Recipe(4, _OPUS, 440),
    Media.ORIGINAL_AAC: _Recipe(4, _FRAGMENTED, 440),
    Media.DUBBED_OPUS: _Recipe(4, _OPUS, 880),
    Media.DUBBED_AAC: _Recipe(4, _FRAGMENTED, 880),
    Media.DESCRIPTION_OPUS: _Recipe(4, _OPUS, 1320),
    Media.DESCRIPTION_SURROUND: _Recipe(4, ("-c:a", "aac", *_SIX_CHANNELS, *_IN_FRAGMENTS), 1320),
    Media.LEVELLED_OPUS: _Recipe(4, _OPUS, 660),
    Media.SURROUND_AAC: _Recipe(4, ("-c:a", "aac", *_SIX_CHANNELS, *_IN_FRAGMENTS), 1100),
    Media.SURROUND_AC3: _Recipe(4, ("-c:a", "ac3", *_SIX_CHANNELS, *_INDEX_FIRST), 1100),
    Media.SURROUND_EAC3: _Recipe(4, ("-c:a", "eac3", *_SIX_CHANNELS, *_INDEX_FIRST), 1100),
    Media.AMBISONIC: _Recipe(4, _AMBISONIC, 1540),
    Media.TRANSPORT_SHORT: _Recipe(4, (*_AAC, "-f", "mpegts")),
    Media.TRANSPORT_CLIP: _Recipe(30, (*_AAC, "-f", "mpegts")),
    Media.TRANSPORT_SONG: _Recipe(240, (*_AAC, "-f", "mpegts")),
    Media.ADTS: _Recipe(30, (*_AAC, "-f", "adts")),
}
TONES: Final = {media: recipe.hertz for media, recipe in _RECIPES.items() if recipe.hertz}
_HALVES: Final = {Media.HALF: Media.CLIP, Media.HALF_M4A: Media.M4A_CLIP}
# The same length in another format.
IN_M4A: Final = {Media.SHORT: Media.M4A_SHORT, Media.CLIP: Media.M4A_CLIP, Media.SONG: Media.M4A_SONG}
IN_TRANSPORT: Final = {4: Media.TRANSPORT_SHORT, 30: Media.TRANSPORT_CLIP, 240: Media.TRANSPORT_SONG}
_MIME: Final = {
    "webm": 'audio/webm; codecs="opus"',
    "mp4": 'audio/mp4; codecs="mp4a.40.2"',
    "mp3": 'audio/mpeg; codecs="mp3"',
    "mpegts": "video/mp2t",
    "adts": "audio/aac",
}
_OTHER_MIME: Final = {
    Media.MUXED: 'video/mp4; codecs="avc1.42001E, mp4a.40.2"',
    Media.SURROUND_AC3: 'audio/mp4; codecs="ac-3"',
    Media.SURROUND_EAC3: 'audio/mp4; codecs="ec-3"',
}


def seconds_of(media: Media) -> int:
    """Return the true length; 0 for what is no media."""
    recipe = _RECIPES.get(_HALVES.get(media, media))
    return 0 if recipe is None else recipe.seconds


def mime_of(media: Media) -> str:
    """Return the type as YouTube writes it; what is no media is called WebM."""
    recipe = _RECIPES.get(_HALVES.get(media, media))
    return _OTHER_MIME.get(media) or _MIME["webm" if recipe is None else recipe.output[-1]]


def _name(media: Media) -> str:
    return f"{media}.{_RECIPES[media].output[-1]}"


def _ffmpeg(arguments: list[str]) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=300)


def _make(media: Media, path: Path) -> None:
    recipe = _RECIPES[media]
    picture = f"testsrc=size=640x360:rate=25:duration={recipe.seconds}"
    inputs = ["-f", "lavfi", "-i", picture] if media is Media.MUXED else []
    source = _NOISY if recipe.hertz is None else _TONE
    inputs += ["-f", "lavfi", "-i", source.format(seconds=recipe.seconds, hertz=recipe.hertz)]
    _ffmpeg([*inputs, "-map_metadata", "-1", "-fflags", "+bitexact", *recipe.output, str(path)])


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
        """Return a body, made first if need be: up to 4 s for a song on a busy machine, a minute for an hour."""
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
        # A client that gives up does not stop the encoder: the next client needs the same file.
        self._bodies[key] = await asyncio.shield(self._task(key, name))
        return self._bodies[key]

    def _load(self, key: str, path: Path) -> memoryview:
        if not path.exists():
            with path.with_name(f"{path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    self._make(key, path)
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def _make(self, key: str, path: Path) -> None:
        # Renamed when it is whole: a process that is killed leaves no half of a file under the name.
        draft = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
        if key in _RECIPES:
            _make(Media(key), draft)
        else:
            _make_picture(path.stem, draft)
        draft.replace(path)
