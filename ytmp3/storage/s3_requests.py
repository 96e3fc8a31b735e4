"""Requests to a bucket of an object store that speaks S3: the only module that knows the library, `obstore`.

The rule: every failure but a missing object becomes ShelfDown, whose text names the status and the S3 code, never a URL
or a key. Requests are repeated within limits: after connection errors, timeouts and the statuses 429 and 5xx.

The library also reads variables AWS_* of the environment, but the settings win: keys, address and signature are given
to each store. Others are followed, such as AWS_SERVER_SIDE_ENCRYPTION, HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

Functions that upload are called in threads, because they read a local file. The others wait in the event loop.
"""

import errno
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from ytmp3.storage import Description, Request, ShelfDown
from ytmp3.storage.settings import S3Settings

OnRequest = Callable[[Request, float, bool], object]
"""Receives each request, how many seconds it took, and whether it succeeded. A missing object is a success."""

SINGLE_BYTES: Final = 16 * 2**20
"""Largest file that is sent in one request, in bytes. It is held in memory meanwhile."""
PART_BYTES: Final = 8 * 2**20
"""Size of the parts of a larger file, in bytes. S3 allows 10,000 of them, so 80 GB."""
PARTS_AT_ONCE: Final = 2
"""Parts of one file that are sent at once: as much memory as SINGLE_BYTES."""
PIECE_BYTES: Final = 2**20
"""Bytes that one request reads. A transfer to a client holds this many in memory."""
LISTED_AT_ONCE: Final = 1000
"""Names in one response to a listing: the most that S3 allows."""
LINK_SECONDS: Final = 60
"""How long, in seconds, a client may begin a download with a presigned URL. A running download may take longer."""
PAUSE_SECONDS: Final = 2.0
"""Longest pause, in seconds, before a request is repeated."""
CONNECT_SECONDS: Final = 5.0
"""Longest time, in seconds, until a connection is open."""

_EMPTY: Final = ".empty"
"""A folder in which there is never an object. Listing it is a small request that a missing bucket refuses."""
_SHA256: Final = "sha256"
"""The name of the metadata that holds the track's hash. An ETag is no hash if a file was sent in parts."""
_STATUS: Final = re.compile(r"status code: ([0-9]{3})")
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")
_IS_FULL: Final = re.compile(r"quota|storagefull|insufficientstorage|notenough", re.IGNORECASE)
"""Parts of the codes of a full bucket or server: QuotaExceeded, XMinioStorageFull. S3 itself has none."""
_HINTS: Final = {
    "AccessDenied": "may these keys read, write, list and delete there?",
    "AuthorizationHeaderMalformed": "is S3_REGION right?",
    "InvalidAccessKeyId": "is S3_ACCESS_KEY_ID right?",
    "NoSuchBucket": "is the bucket in STORAGE_URL right?",
    "PermanentRedirect": "are S3_REGION and S3_ENDPOINT right?",
    "RequestTimeTooSkewed": "is the clock of this machine right?",
    "SignatureDoesNotMatch": "is S3_SECRET_ACCESS_KEY right?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one call."""

    request_seconds: float
    """Longest time for one request, with its response."""
    retries: int
    """How often a failed request is repeated."""
    retry_seconds: float
    """Time after the first request, in seconds, until which it may be repeated."""


USUAL: Final = Limits(request_seconds=30.0, retries=3, retry_seconds=60.0)
"""Enough time for a part of PART_BYTES at 280 kB/s, and for an object store that does not reply for a while. One that
refuses connections, as in a restart, is not waited for: all repeats take about half a second (measured)."""
QUICK: Final = Limits(request_seconds=5.0, retries=1, retry_seconds=5.0)
"""For checks: below the 6 s after which a check of the disk counts as hanging (`EngineSettings.disk_limit_seconds`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object, as the server describes it."""

    size_bytes: int
    sha256: str
    """The hash that was stored with it; empty if there is none."""
    etag: str
    modified_at: float
    """By the server's clock, in seconds since 1970."""


class Bucket:
    """The objects below the prefix. Making one reads the system's certificates, and blocks."""

    def __init__(self, settings: S3Settings, limits: Limits = USUAL, on_request: OnRequest = lambda *_: None) -> None:
        """Connects to nothing yet. `on_request` is called after each request, in the thread of the caller.

        Raises:
            ShelfDown: the settings cannot be used.
        """
        self._on_request = on_request
        with _translated():
            self._store = _store(settings, limits, is_public=False)
            self._for_clients = _store(settings, limits, is_public=True) if settings.redirects else self._store

    def put(self, name: str, source: Path | bytes, description: Description, size_bytes: int) -> None:
        """Store a file or some bytes. Blocks.

        Raises:
            ShelfDown: whether the object exists is unknown.
        """
        with self._asking(Request.PUT):
            obstore.put(
                self._store,
                name,
                source,
                attributes={
                    "Content-Type": description.content_type,
                    "Content-Disposition": description.content_disposition,
                    _SHA256: description.sha256,
                },
                use_multipart=size_bytes > SINGLE_BYTES,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

    def stored(self, name: str) -> Stored | None:
        """Return what the server says about an object; None if it does not exist. Blocks.

        Raises:
            ShelfDown
        """
        with self._asking(Request.HEAD), _none_if_missing():
            # `obstore.head` does not return the metadata.
            return _stored(obstore.get(self._store, name, options={"head": True}))
        with self._asking(Request.LIST):
            list(obstore.list(self._store, prefix=_EMPTY))
        return None

    def remove(self, name: str) -> None:
        """Delete an object. It is no error if it does not exist. Blocks.

        Raises:
            ShelfDown
        """
        with self._asking(Request.DELETE), _none_if_missing():
            obstore.delete(self._store, name)

    async def find(self, name: str) -> Stored | None:
        """Do what `stored` does, without blocking.

        Raises:
            ShelfDown
        """
        with self._asking(Request.HEAD), _none_if_missing():
            return _stored(await obstore.get_async(self._store, name, options={"head": True}))
        with self._asking(Request.LIST):
            await obstore.list(self._store, prefix=_EMPTY).collect_async()
        return None

    async def delete(self, name: str) -> None:
        """Do what `remove` does, without blocking.

        Raises:
            ShelfDown
        """
        with self._asking(Request.DELETE), _none_if_missing():
            await obstore.delete_async(self._store, name)

    async def read(self, name: str, offset: int, count: int) -> AsyncIterator[bytes]:
        """Yield a part of an object in pieces. Each is a request of its own, so a slow client keeps no connection open.

        Raises:
            ShelfDown: it ends early, or does not exist any more.
        """
        while count > 0:
            length = min(PIECE_BYTES, count)
            with self._asking(Request.GET):
                piece = await obstore.get_range_async(self._store, name, start=offset, length=length)
            if len(piece) != length:
                raise ShelfDown(errno.EIO, "the object store sent less than was stored")
            yield piece.to_bytes()
            offset += length
            count -= length

    async def get(self, name: str) -> tuple[bytes, float] | None:
        """Return a small object, and when it was stored, in seconds since 1970; None if it does not exist.

        Raises:
            ShelfDown
        """
        with self._asking(Request.GET), _none_if_missing():
            result = await obstore.get_async(self._store, name)
            stored_at = result.meta["last_modified"].timestamp()
            return (await result.bytes_async()).to_bytes(), stored_at
        return None

    async def create(self, name: str, content: bytes) -> None:
        """Store some bytes, unless the object exists. Servers that do not know this condition replace it.

        Raises:
            ShelfDown
        """
        with self._asking(Request.PUT):
            try:
                await obstore.put_async(self._store, name, content, mode="create")
            except obstore.exceptions.AlreadyExistsError:
                return

    async def replace(self, name: str, content: bytes) -> None:
        """Store some bytes, also if the object exists.

        Raises:
            ShelfDown
        """
        with self._asking(Request.PUT):
            await obstore.put_async(self._store, name, content)

    async def names(self, folder: str = "") -> AsyncIterator[tuple[str, float]]:
        """Yield each object in a folder below the prefix, but not in further folders there.

        Yields its name in the folder, and when it was stored, in seconds since 1970. Without a folder, these are the
        objects directly below the prefix.

        Raises:
            ShelfDown
        """
        start = f"{folder}/" if folder else ""
        with self._asking(Request.LIST):
            async for objects in obstore.list(self._store, prefix=folder or None, chunk_size=LISTED_AT_ONCE):
                for found in objects:
                    name = found["path"].removeprefix(start)
                    if "/" not in name:
                        yield name, found["last_modified"].timestamp()

    async def link(self, name: str) -> str:
        """Return a URL with which a client may GET the object, without keys, for LINK_SECONDS.

        The signature covers the method: S3 answers 403 to a HEAD of this URL.

        Raises:
            ShelfDown: the keys could not be read from the machine.
        """
        with _translated():
            return await obstore.sign_async(self._for_clients, "GET", name, timedelta(seconds=LINK_SECONDS))

    @contextmanager
    def _asking(self, request: Request) -> Iterator[None]:
        """Report the request, its repetitions included, and turn its error into ShelfDown."""
        began, is_ok = time.monotonic(), False
        try:
            with _translated():
                yield
            is_ok = True
        except ShelfDown:
            self._on_request(request, time.monotonic() - began, is_ok)
            raise
        self._on_request(request, time.monotonic() - began, is_ok)


def _store(settings: S3Settings, limits: Limits, *, is_public: bool) -> S3Store:
    url = settings.host_url(is_public=is_public)
    # Without keys, the library looks for them in the environment and at the machine.
    keys: Any = {"skip_signature": False, "unsigned_payload": False, "s3_express": False}
    client: Any = {
        "allow_http": url.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=limits.request_seconds),
    }
    if settings.ca_file is not None:
        client["root_certificate"] = settings.ca_file.read_bytes()
    if settings.access_key_id:
        # As options, they would be sent with an AWS_SESSION_TOKEN of the environment, which belongs to other keys.
        keys["credential_provider"] = partial(_credential, settings)
    return S3Store(
        settings.bucket,
        prefix=settings.prefix or None,
        endpoint=url,
        # AWS_ENDPOINT_URL_S3 would win over `endpoint`.
        aws_endpoint_url_s3=url,
        region=settings.region,
        virtual_hosted_style_request=not settings.path_style,
        # Not every server knows requests that delete several objects.
        disable_bulk_delete=True,
        client_options=client,
        retry_config={
            "max_retries": limits.retries,
            "retry_timeout": timedelta(seconds=limits.retry_seconds),
            "backoff": {"max_backoff": timedelta(seconds=PAUSE_SECONDS)},
        },
        **keys,
    )


def _credential(settings: S3Settings) -> dict[str, str | None]:
    """Return the keys in the form that the library asks for (`obstore.store.S3Credential`)."""
    return {
        "access_key_id": settings.access_key_id,
        "secret_access_key": settings.secret_access_key,
        "token": None,
        "expires_at": None,
    }


def _stored(result: Any) -> Stored:
    """Read a `GetResult`, a type that exists for the type checker only."""
    meta = result.meta
    modified: datetime = meta["last_modified"]
    return Stored(
        size_bytes=meta["size"],
        sha256=str(result.attributes.get(_SHA256, "")),
        etag=meta["e_tag"] or "",
        modified_at=modified.timestamp(),
    )


@contextmanager
def _none_if_missing() -> Iterator[None]:
    """Ignore that an object does not exist, but not that the bucket does not. The response to a HEAD says neither.

    Raises:
        FileNotFoundError: the bucket does not exist.
    """
    try:
        yield
    except FileNotFoundError as error:
        if (code := _CODE.search(str(error))) is not None and code[1] != "NoSuchKey":
            raise


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the errors of the library into ShelfDown; that of a missing object too, unless it was caught before."""
    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as error:
        raise _shelf_down(str(error)) from None


def _shelf_down(text: str) -> ShelfDown:
    """Return the error for a text of the library, which contains the response, and also the URL."""
    status, code = _STATUS.search(text), _CODE.search(text)
    if status is None:
        hint = ", or it knows no keys: see S3_ACCESS_KEY_ID" if "credential" in text.lower() else ""
        return ShelfDown(errno.EIO, f"the object store does not answer{hint}")
    name = "" if code is None else f" {code[1]}"
    hint = "" if code is None or code[1] not in _HINTS else f": {_HINTS[code[1]]}"
    is_full = status[1] == "507" or (code is not None and _IS_FULL.search(code[1]))
    return ShelfDown(errno.ENOSPC if is_full else errno.EIO, f"the object store answers {status[1]}{name}{hint}")
