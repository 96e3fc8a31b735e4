"""Downloads one track. Resumes a partial download, and verifies the SHA-256 of the result.

The bytes are written to NAME.part, which is renamed when it is complete. A partial file of an earlier run is continued
with `Range` and `If-Range`; if the track has changed meanwhile, the service sends it from the beginning.
"""

import hashlib
import http.client
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ytmp3.client.api import Api, Job, Refused, Unreachable
from ytmp3.client.names import numbered, track_name, with_position

CHUNK_BYTES: Final = 1 << 18
"""Most bytes that are read and written at once."""
MAX_FAILURES: Final = 5
"""Most failures in a row, each without a single new byte, before the download fails."""
PAUSE_SECONDS: Final = 1.0
"""Pause, in seconds, after the first such failure. Each further one doubles it."""


class DownloadFailed(Exception):
    """The track could not be downloaded. The text says why; the partial file is kept for the next attempt."""


def download(
    api: Api,
    job: Job,
    folder: Path,
    on_bytes: Callable[[int], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Download the track of a completed job into `folder`, and return its path.

    If its batch numbers its tracks, the name begins with the number, so that a folder lists them in order.

    If a file with the same content exists already, nothing is downloaded. A track with tags of the client's choice has
    no SHA-256 in its job: it is always downloaded, from its beginning, and not saved twice. `on_bytes` is called with
    the number of bytes that have been downloaded so far.

    Raises:
        DownloadFailed, Unreachable, Refused
        OSError: the file cannot be written.
    """
    size, sha256 = int(job["file"]["size_bytes"]), job["file"]["sha256"]
    with api.open("HEAD", job["download_url"]) as response:
        etag = response.headers.get("ETag", f'"{sha256}"')
        name = _name(job, response.headers.get("Content-Disposition", ""))
    target, is_there = (folder / name, False) if sha256 is None else _place(folder, name, size, sha256)
    if is_there:
        on_bytes(size)
        return target
    part = target.with_name(f"{target.name}.part")
    if sha256 is None:
        # Nothing would show that a partial file of an earlier run has other tags.
        part.unlink(missing_ok=True)
    failures, is_resumed = 0, _size(part) > 0
    while True:
        before = _size(part)
        if before < size:
            try:
                _continue(api, job, part, size, etag, on_bytes)
            except (Unreachable, OSError, http.client.HTTPException, Refused) as error:
                if not _is_worth_repeating(error):
                    raise
                failures = 0 if _size(part) > before else failures + 1
                if failures > MAX_FAILURES:
                    raise DownloadFailed(f"the connection breaks again and again: {error}") from None
                sleep(_pause_seconds(error, failures))
                continue
        actual = _sha256(part)
        if sha256 in {actual, None}:
            return _kept(part, *_place(folder, name, size, actual))
        part.unlink()
        if not is_resumed:
            raise DownloadFailed("the track that arrived differs from its SHA-256")
        # The partial file of an earlier run belonged to another track with the same name.
        is_resumed = False


def _name(job: Job, disposition: str) -> str:
    """Return the file name: as the service suggests, after the number if the batch of the job is numbered."""
    # Jobs of older services have no field for the format, which is always MP3; and none for the tags and the batch.
    name = track_name(disposition, f"{job['video_id']}.{job.get('format', 'mp3')}")
    tags = job.get("tags") or {}
    number, total = tags.get("track_number"), tags.get("track_total")
    if job.get("batch_id") is None or number is None or total is None:
        return name
    return with_position(name, number, total)


def _kept(part: Path, target: Path, is_there: bool) -> Path:  # noqa: FBT001  the result of `_place`
    """Give a complete file its name, unless there is a file with its content already. Returns the path."""
    if is_there:
        part.unlink()
    else:
        part.replace(target)
    return target


def _place(folder: Path, name: str, size: int, sha256: str) -> tuple[Path, bool]:
    """Return the path of the track, and whether the file exists already."""
    number = 1
    while True:
        target = folder / numbered(name, number)
        if not target.exists():
            return target, False
        if target.is_file() and target.stat().st_size == size and _sha256(target) == sha256:
            return target, True
        number += 1


def _continue(api: Api, job: Job, part: Path, size: int, etag: str, on_bytes: Callable[[int], None]) -> None:
    """Download the missing bytes of the track with this ETag, until the connection ends."""
    have = _size(part)
    headers = {"Range": f"bytes={have}-", "If-Range": etag} if have else {}
    with api.open("GET", job["download_url"], headers) as response:
        is_continued = response.status == 206
        with part.open("ab" if is_continued else "wb") as file:
            have = have if is_continued else 0
            on_bytes(have)
            while have < size and (chunk := response.read1(min(CHUNK_BYTES, size - have))):
                file.write(chunk)
                have += len(chunk)
                on_bytes(have)
    if have < size:
        raise Unreachable("the connection ended early")


def _is_worth_repeating(error: Exception) -> bool:
    match error:
        case Refused():
            return error.status in {429, 503}
        case Unreachable() | ConnectionError() | TimeoutError() | http.client.HTTPException():
            return True
        case _:
            return False  # the disk is full, or the folder cannot be written


def _pause_seconds(error: Exception, failures: int) -> float:
    if isinstance(error, Refused) and error.retry_after_seconds is not None:
        return error.retry_after_seconds
    return PAUSE_SECONDS * float(2 ** max(0, failures - 1))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
