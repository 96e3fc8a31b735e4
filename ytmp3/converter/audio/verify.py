"""Verifies the files that child processes have written, and assembles the track.

The child processes handle data from the network, so their output is not trusted. `assemble` blocks: call it in a
thread.
"""

import contextlib
import hashlib
import itertools
import mmap
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, assert_never

from msgspec import Struct

from ytmp3.converter.audio.broken import BrokenError, CutError
from ytmp3.converter.audio.gain import with_gain
from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.mp3 import walk
from ytmp3.converter.audio.mp4 import pieces_of_mp4, read_mp4
from ytmp3.converter.audio.mp4_chapters import with_chapters
from ytmp3.converter.audio.mp4_tags import mp4_tags
from ytmp3.converter.audio.ogg import pieces_of_opus, read_opus
from ytmp3.converter.audio.ogg_tags import opus_tags
from ytmp3.converter.audio.tags import MAX_COVER_BYTES, Tags
from ytmp3.converter.settings import ConversionLimits
from ytmp3.core.cut import TOLERATED_SECONDS, WHOLE, Cut, tolerance
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.recipe import Format

EXACT_SECONDS: Final = 0.05
"""Largest accepted difference, in seconds, where the duration is known to the sample: a frame of MP3 has 26 ms."""

COPY_BYTES: Final = 2**20
"""Number of bytes of an MP3 that are copied at once from the encoder's output to the track."""

JPEG_MAGIC: Final = b"\xff\xd8\xff"


class Assembled(Struct, frozen=True, kw_only=True):
    """A track, as it was written to its file."""

    duration_seconds: float
    size_bytes: int
    sha256: str
    crc32: int


def check_cut(cut: Cut, announced: float | None) -> None:
    """Compare a requested part with the announced duration of the video, if there is one.

    Raises:
        ConversionError: the video ends before.
    """
    if announced and not cut.fits(announced):
        raise ConversionError(FailureCode.CUT_OUT_OF_RANGE, f"{announced:.1f} s announced")


def check_duration(seconds: float, announced: float | None, limits: ConversionLimits, cut: Cut = WHOLE) -> None:
    """Compare the measured duration of a track with the limit, and with what is expected of it.

    `announced` is the announced duration of the whole video, if there is one, and `cut` the part that was requested.

    Raises:
        ConversionError: the audio is longer than allowed, or differs too much from the expected duration.
    """
    if seconds > limits.max_duration_seconds + TOLERATED_SECONDS:
        raise ConversionError(FailureCode.TOO_LONG, f"{seconds:.1f} s")
    expected = cut.length_of(announced or None)
    if expected is None:
        return
    tolerated = EXACT_SECONDS if cut.is_exact(announced) or not announced else tolerance(announced)
    if abs(seconds - expected) > tolerated:
        # Without an announced duration, nobody can know before that the video is too short.
        code = FailureCode.OUTPUT_TRUNCATED if announced else FailureCode.CUT_OUT_OF_RANGE
        raise ConversionError(code, f"{seconds:.2f} s of {expected:.2f} s")


def assemble(encoded: Path, format_: Format, tags: Tags, target: Path) -> Assembled:
    """Verify every frame or packet of `encoded`, then write the track with its tags to `target`.

    After an error, an incomplete `target` may exist; the caller removes the scratch folder.

    Raises:
        ConversionError: the encoder's output is not one clean track of this format.
        OSError: a file cannot be read or written.
    """
    with encoded.open("rb") as source:
        if not os.fstat(source.fileno()).st_size:
            raise ConversionError(FailureCode.MEDIA_INVALID, "the encoder's output is empty")
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                duration, pieces = _track(content, format_, tags)
                size, sha256, crc32 = _write(pieces, target)
            except CutError as error:
                raise ConversionError(FailureCode.OUTPUT_TRUNCATED, f"the encoder's output: {error}") from error
            except BrokenError as error:
                raise ConversionError(FailureCode.MEDIA_INVALID, f"the encoder's output: {error}") from error
    return Assembled(duration_seconds=duration, size_bytes=size, sha256=sha256, crc32=crc32)


def _track(content: mmap.mmap, format_: Format, tags: Tags) -> tuple[float, Iterator[bytes]]:
    """Verify the encoder's output. Returns its duration in seconds, and the bytes of the track, piece by piece.

    Raises:
        BrokenError, CutError: it is not one clean track.
    """
    match format_:
        case Format.MP3:
            seconds = walk(content).duration_seconds
            steps = tags.volume.steps
            sound = with_gain(content, steps) if steps else _copied(content)
            return seconds, itertools.chain([id3v2_tag(tags.of_track(seconds))], sound)
        case Format.M4A:
            mp4 = read_mp4(content)
            own = tags.of_track(mp4.duration_seconds)
            return mp4.duration_seconds, pieces_of_mp4(with_chapters(mp4, own), content, mp4_tags(own))
        case Format.OPUS:
            opus = read_opus(content)
            return opus.duration_seconds, pieces_of_opus(opus, content, opus_tags(tags.of_track(opus.duration_seconds)))
        case _:
            assert_never(format_)


def _copied(content: mmap.mmap) -> Iterator[bytes]:
    for position in range(0, len(content), COPY_BYTES):
        yield content[position : position + COPY_BYTES]


def _write(pieces: Iterator[bytes], target: Path) -> tuple[int, str, int]:
    """Write a file. Returns its size in bytes, its SHA-256 in hex, and its CRC-32."""
    digest, crc32 = hashlib.sha256(), 0
    with target.open("wb") as sink:
        for piece in pieces:
            digest.update(piece)
            crc32 = zlib.crc32(piece, crc32)
            sink.write(piece)
        size = sink.tell()
    return size, digest.hexdigest(), crc32


def read_cover(path: Path) -> bytes | None:
    """Return the cover that the youtube child wrote, or None if the file is not a JPEG, too large or unreadable.

    A missing cover never fails a conversion. Symbolic links are not followed, because the child handles data from the
    network and may be compromised.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor has no Path
            cover = file.read(MAX_COVER_BYTES + 1)
        if cover.startswith(JPEG_MAGIC) and len(cover) <= MAX_COVER_BYTES:
            return cover
    return None
