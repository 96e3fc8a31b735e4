"""Verifies the files that child processes have written, and assembles the track.

The child processes handle data from the network, so their output is not trusted. `assemble` blocks: call it in a
thread.
"""

import contextlib
import hashlib
import os
import zlib
from pathlib import Path
from typing import Final

from ytmp3.converter.audio.mp3 import CutError, Mp3Error, Stream, walk_file
from ytmp3.converter.audio.tag import MAX_COVER_BYTES
from ytmp3.converter.settings import ConversionLimits
from ytmp3.core.errors import ConversionError, FailureCode

TOLERATED_SECONDS: Final = 2.0
TOLERATED_FRACTION: Final = 0.02
"""Largest accepted difference between the measured and the announced duration: these seconds, or this fraction of the
announced duration, if that is more. Announced durations are whole seconds, and the audio of a video may be slightly
longer or shorter than its picture."""

COPY_BYTES: Final = 2**20
"""Number of bytes that are copied at once from the encoder's output to the track."""

JPEG_MAGIC: Final = b"\xff\xd8\xff"


def check_duration(stream: Stream, announced: float | None, limits: ConversionLimits) -> None:
    """Compare the measured duration with the limit and with the announced one, if there is one.

    Raises:
        ConversionError: the audio is longer than allowed, or differs too much from the announced duration.
    """
    seconds = stream.duration_seconds
    if seconds > limits.max_duration_seconds + TOLERATED_SECONDS:
        raise ConversionError(FailureCode.TOO_LONG, f"{seconds:.1f} s")
    if announced and abs(seconds - announced) > max(TOLERATED_SECONDS, TOLERATED_FRACTION * announced):
        raise ConversionError(FailureCode.OUTPUT_TRUNCATED, f"{seconds:.1f} s of {announced:.1f} s")


def assemble(encoded: Path, tag: bytes, target: Path) -> tuple[Stream, int, str, int]:
    """Verify every frame of `encoded`, then write the tag and the frames to `target`.

    Returns the stream, the size of `target` in bytes, its SHA-256 in hex, and its CRC-32. After an error, an incomplete
    `target` may exist; the caller removes the scratch folder.

    Raises:
        ConversionError: the encoder's output is not one clean MP3 stream.
        OSError: a file cannot be read or written.
    """
    try:
        stream = walk_file(encoded)
    except CutError as error:
        raise ConversionError(FailureCode.OUTPUT_TRUNCATED, f"the encoder's output: {error}") from error
    except Mp3Error as error:
        raise ConversionError(FailureCode.MEDIA_INVALID, f"the encoder's output: {error}") from error
    digest, crc32 = hashlib.sha256(tag), zlib.crc32(tag)
    buffer = bytearray(COPY_BYTES)
    view = memoryview(buffer)
    with encoded.open("rb", buffering=0) as source, target.open("wb", buffering=0) as sink:
        sink.write(tag)
        while count := source.readinto(buffer):
            digest.update(view[:count])
            crc32 = zlib.crc32(view[:count], crc32)
            sink.write(view[:count])
        size = sink.tell()
    return stream, size, digest.hexdigest(), crc32


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
