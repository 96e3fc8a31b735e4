"""Requests to an object store: what they take from the environment, what a missing bucket is, and how they count."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from tests.contract.test_shelf_contract import DESCRIPTION, NAME, TRACK
from tests.stand.answering import answering
from tests.stand.s3_server import SECRET
from ytmp3.metrics import Metrics
from ytmp3.storage import Request, ShelfDown
from ytmp3.storage.s3 import S3Shelf
from ytmp3.storage.s3_requests import Bucket, Limits
from ytmp3.storage.settings import S3Settings

ONCE = Limits(request_seconds=30.0, retries=0, retry_seconds=1.0)
SURPRISES = {
    "AWS_ACCESS_KEY_ID": "of-the-environment",
    "AWS_SECRET_ACCESS_KEY": "of-the-environment",
    "AWS_SESSION_TOKEN": "of-the-environment",
    "AWS_REGION": "of-the-environment",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_UNSIGNED_PAYLOAD": "true",
    "AWS_S3_EXPRESS": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
}
"""Variables that other programs of the machine may need, and that would change these requests."""


@dataclass
class EmptyStore:
    """Has a bucket without objects, or no bucket. Keeps the headers of each request."""

    has_bucket: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    endpoint: str = ""

    @property
    def settings(self) -> S3Settings:
        return S3Settings(bucket="tracks", endpoint=self.endpoint, access_key_id="own", secret_access_key=SECRET)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.url.host or ""))
        self.headers.append(dict(request.headers))
        await request.read()
        is_list = request.query.get("list-type") == "2"
        if is_list and self.has_bucket:
            return web.Response(text="<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        if request.method == "PUT" and self.has_bucket:
            return web.Response(headers={"ETag": '"1"'})
        code = "NoSuchKey" if self.has_bucket else "NoSuchBucket"
        return web.Response(status=404, text=f"<Error><Code>{code}</Code></Error>")


@pytest.fixture
async def store() -> AsyncIterator[EmptyStore]:
    server = EmptyStore()
    async with answering(server.answer) as server.endpoint:
        yield server


async def test_the_settings_win_over_the_environment(store: EmptyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SURPRISES.items():
        monkeypatch.setenv(name, value)
    bucket = Bucket(store.settings, ONCE)
    await bucket.replace(NAME, b"content")
    (sent,) = store.headers
    assert "Credential=own/" in sent["Authorization"]
    assert "/us-east-1/s3/" in sent["Authorization"]
    assert sent["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"
    assert "of-the-environment" not in str(sent) + await bucket.link(NAME)


async def test_without_keys_those_of_the_environment_are_used(
    store: EmptyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, SURPRISES[name])
    settings = S3Settings(bucket="tracks", endpoint=store.endpoint)
    await Bucket(settings, ONCE).replace(NAME, b"content")
    (sent,) = store.headers
    assert "Credential=of-the-environment/" in sent["Authorization"]
    assert sent["x-amz-security-token"] == "of-the-environment"


async def test_the_proxy_of_the_environment_is_used_except_for_hosts_of_no_proxy(
    store: EmptyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", store.endpoint)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    elsewhere = S3Settings(
        bucket="tracks", endpoint="http://object-store.invalid", access_key_id="own", secret_access_key=SECRET
    )
    await Bucket(elsewhere, ONCE).replace(NAME, b"content")
    await Bucket(store.settings, ONCE).replace(NAME, b"content")
    assert store.asked == [("PUT", "object-store.invalid"), ("PUT", "127.0.0.1")]


async def test_a_missing_bucket_is_an_error_and_no_missing_object(store: EmptyStore, tmp_path: Path) -> None:
    shelf = S3Shelf(store.settings, limits=ONCE)
    await shelf.open()
    assert not await shelf.holds(TRACK)
    assert await shelf.crc32(NAME) is None
    await shelf.delete(NAME)
    store.has_bucket = False
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    for call in (
        shelf.holds(TRACK),
        shelf.has_all([TRACK]),
        shelf.deliver(TRACK, may_redirect=False),
        shelf.crc32(NAME),
        shelf.mark(),
        shelf.delete(NAME),
        shelf.sign("installation"),
        asyncio.to_thread(shelf.try_publishing, probe),
    ):
        with pytest.raises(ShelfDown, match=r"404 NoSuchBucket: is the bucket in STORAGE_URL right\?"):
            await call
    bucket = Bucket(store.settings, ONCE)
    for blocking in (bucket.stored, bucket.remove):
        with pytest.raises(ShelfDown, match="NoSuchBucket"):
            await asyncio.to_thread(blocking, NAME)


async def test_requests_are_counted_with_their_kind_and_their_end(store: EmptyStore) -> None:
    metrics = Metrics()
    bucket = Bucket(store.settings, ONCE, metrics.on_object_store_request)
    await asyncio.to_thread(bucket.put, NAME, b"content", DESCRIPTION, 7)
    await bucket.find(NAME)
    store.has_bucket = False
    with pytest.raises(ShelfDown):
        await bucket.find(NAME)

    def value(name: str, request: Request) -> float | None:
        return metrics.registry.get_sample_value(f"ytmp3_object_store_{name}", {"request": request})

    assert [value("request_duration_seconds_count", each) for each in Request] == [1.0, None, 2.0, 2.0, None]
    assert [value("errors_total", each) for each in Request] == [0.0, 0.0, 0.0, 1.0, 0.0]
