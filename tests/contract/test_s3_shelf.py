"""The shelf in a bucket, beyond the contract that every shelf keeps (`test_shelf_contract`)."""

import asyncio
import errno
import hashlib
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import ClientSession, web

from tests.contract.test_shelf_contract import CONTENT, DESCRIPTION, NAME, OTHER_NAME, TRACK, track_of
from tests.fake_youtube.certificate import issue
from tests.stand.answering import answering
from tests.stand.s3_server import SECRET, S3Server
from tests.stand.waiting import until
from ytmp3.core.ids import InstanceId
from ytmp3.storage import Description, RemoteFile, ShelfDown, Url
from ytmp3.storage.files import Files
from ytmp3.storage.s3 import S3Shelf
from ytmp3.storage.s3_requests import QUICK, SINGLE_BYTES, Bucket, Limits
from ytmp3.storage.scratch import Scratch
from ytmp3.storage.settings import S3Settings

pytestmark = pytest.mark.xdist_group("s3")

IMPATIENT = Limits(request_seconds=0.2, retries=0, retry_seconds=1.0)


async def open_shelf(settings: S3Settings, **more: object) -> S3Shelf:
    shelf = S3Shelf(settings, **more)  # type: ignore[arg-type]
    await shelf.open()
    return shelf


async def publish(shelf: S3Shelf, folder: Path, content: bytes = CONTENT, name: str = NAME) -> None:
    (folder / "encoded").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    await shelf.publish(
        folder / "encoded",
        name,
        Description(content_type="audio/mpeg", content_disposition='attachment; filename="a.mp3"', sha256=sha256),
    )


async def test_a_client_gets_the_track_from_the_object_store_with_the_headers_of_a_download(
    s3_server: S3Server, tmp_path: Path
) -> None:
    shelf = await open_shelf(s3_server.settings(uuid4().hex, redirects=True))
    await publish(shelf, tmp_path)
    assert isinstance(await shelf.deliver(TRACK, may_redirect=True), RemoteFile)
    delivery = await shelf.deliver(TRACK, may_redirect=True, may_leave=True)
    assert isinstance(delivery, Url)
    assert "X-Amz-Expires=60" in delivery.url
    assert SECRET not in delivery.url
    async with ClientSession() as client:
        async with client.get(delivery.url, headers={"Range": "bytes=3-5"}) as response:
            assert (response.status, await response.read()) == (206, CONTENT[3:6])
            assert response.headers["Content-Type"] == "audio/mpeg"
            assert response.headers["Content-Disposition"] == 'attachment; filename="a.mp3"'
        for method, changed in (("HEAD", delivery.url), ("GET", delivery.url.replace(NAME, OTHER_NAME))):
            async with client.request(method, changed) as response:
                assert response.status == 403, "the signature covers the method and the object"


async def test_a_large_track_is_sent_in_parts_and_read_once_by_another_instance(
    s3_server: S3Server, tmp_path: Path
) -> None:
    content = CONTENT * (SINGLE_BYTES // len(CONTENT) + 1)
    settings = s3_server.settings(uuid4().hex)
    await publish(await open_shelf(settings), tmp_path, content)
    other = await open_shelf(settings)
    for _ in range(2):
        assert not await other.is_damaged(track_of(content=content))


async def test_an_object_that_another_program_has_replaced_is_reported_once_and_not_delivered(
    s3_server: S3Server, tmp_path: Path
) -> None:
    settings, damaged = s3_server.settings(uuid4().hex), list[str]()
    await publish(await open_shelf(settings), tmp_path)
    shelf = await open_shelf(settings, on_damaged=damaged.append)
    assert not await shelf.is_damaged(TRACK)
    changed = CONTENT[:-1] + b"K"
    Bucket(settings, QUICK).put(NAME, changed, DESCRIPTION, len(changed))
    assert await shelf.is_damaged(TRACK), "the same hash is stored with another content"
    without_hash = Description(content_type="audio/mpeg", content_disposition="attachment", sha256="")
    Bucket(settings, QUICK).put(NAME, changed, without_hash, len(changed))
    for _ in range(2):
        assert await shelf.deliver(TRACK, may_redirect=False) is None
    assert damaged == [NAME]


async def test_objects_of_other_programs_are_never_listed_for_the_sweep(s3_server: S3Server, tmp_path: Path) -> None:
    prefix = uuid4().hex
    shelf, bucket = await open_shelf(s3_server.settings(prefix)), Bucket(s3_server.settings(prefix), QUICK)
    await publish(shelf, tmp_path)
    for name in ("a.mp3", "photo.jpg", f"other/{NAME}", f"{'0' * 33}-1.mp3", ".probe-of-a-dead-instance"):
        bucket.put(name, b"mine", DESCRIPTION, 4)
    assert sorted(await shelf.names(older_than_seconds=-3600.0)) == [".probe-of-a-dead-instance", NAME]


async def test_an_old_mark_is_stored_again_before_a_lifecycle_rule_deletes_it(s3_server: S3Server) -> None:
    settings = s3_server.settings(uuid4().hex)
    mark = await (await open_shelf(settings)).mark()
    bucket = Bucket(settings, QUICK)
    before = bucket.stored(".shelf")
    later = await open_shelf(settings, clock=lambda: time.time() + 86_400.0)

    async def is_stored_again() -> bool:
        assert await later.mark() == mark
        return bucket.stored(".shelf") != before

    # The times of objects are in whole seconds.
    await until(is_stored_again, "the mark has a later time")
    assert await later.mark() == mark


async def test_clocks_that_differ_too_much_are_reported(s3_server: S3Server, tmp_path: Path) -> None:
    for redirects, shift, is_reported in (
        (True, 100.0, True),
        (True, -100.0, True),
        (False, 100.0, False),
        (False, -400.0, True),
    ):
        settings = s3_server.settings(uuid4().hex, redirects=redirects)
        shelf = await open_shelf(settings, clock=lambda shift=shift: time.time() + shift)
        probe = tmp_path / "probe-a"
        probe.write_bytes(b"x")
        if is_reported:
            with pytest.raises(ShelfDown, match="clocks of this machine and of the object store differ"):
                shelf.try_publishing(probe)
        else:
            shelf.try_publishing(probe)
        assert not probe.exists()
        assert Bucket(settings, QUICK).stored(".probe-a") is None


class FaultyServer:
    """Answers every request with an error, or not at all; counts the requests by method."""

    def __init__(self) -> None:
        self.status = 503
        self.code = ""
        self.is_silent = False
        self.may_answer = asyncio.Event()
        self.asked: list[str] = []
        self.endpoint = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.method)
        await request.read()
        if self.is_silent:
            await self.may_answer.wait()
        body = f"<Error><Code>{self.code}</Code><Message>{request.url}</Message></Error>" if self.code else ""
        return web.Response(status=self.status, text=body)


@pytest.fixture
async def faulty() -> AsyncIterator[FaultyServer]:
    server = FaultyServer()
    async with answering(server.answer) as server.endpoint:
        yield server
        server.may_answer.set()


class Refusing(BaseHTTPRequestHandler):
    """Answers every HEAD with 403."""

    def do_HEAD(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


async def test_a_private_certificate_authority_is_trusted_only_if_it_is_set(tmp_path: Path) -> None:
    ca_file, context = issue(tmp_path, ["localhost"])
    # In a thread: a refused handshake would leave an open transport in the event loop of the test.
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            settings = S3Settings(
                bucket="tracks", endpoint=f"https://localhost:{server.server_port}", access_key_id="id"
            )
            for trusted, text in ((None, "does not answer"), (ca_file, "403")):
                shelf = await open_shelf(replace(settings, ca_file=trusted, secret_access_key=SECRET))
                with pytest.raises(ShelfDown, match=text):
                    await shelf.holds(TRACK)
        finally:
            server.shutdown()
            thread.join()


def settings_of(server: FaultyServer) -> S3Settings:
    return S3Settings(bucket="tracks", endpoint=server.endpoint, access_key_id="id", secret_access_key=SECRET)


async def test_every_refusal_is_a_short_text_without_addresses_and_secrets(
    faulty: FaultyServer, tmp_path: Path
) -> None:
    shelf = await open_shelf(settings_of(faulty), limits=Limits(request_seconds=30.0, retries=0, retry_seconds=1.0))
    for status, code, number, text in (
        (403, "SignatureDoesNotMatch", errno.EIO, "403 SignatureDoesNotMatch: is S3_SECRET_ACCESS_KEY right?"),
        (403, "RequestTimeTooSkewed", errno.EIO, "403 RequestTimeTooSkewed: is the clock of this machine right?"),
        (404, "NoSuchBucket", errno.EIO, "404 NoSuchBucket: is the bucket in STORAGE_URL right?"),
        (409, "SomethingElse", errno.EIO, "409 SomethingElse"),
        (500, "", errno.EIO, "500"),
        (507, "", errno.ENOSPC, "507"),
        (403, "QuotaExceeded", errno.ENOSPC, "403 QuotaExceeded"),
    ):
        faulty.status, faulty.code = status, code
        with pytest.raises(ShelfDown) as caught:
            await publish(shelf, tmp_path)
        assert (caught.value.errno, caught.value.strerror) == (number, f"the object store answers {text}")
        assert (tmp_path / "encoded").exists(), "another attempt may publish it"


async def test_an_outage_is_never_taken_for_a_missing_or_damaged_track(faulty: FaultyServer) -> None:
    shelf = await open_shelf(settings_of(faulty), limits=IMPATIENT)
    for status, code, is_silent in ((503, "SlowDown", False), (403, "AccessDenied", False), (200, "", True)):
        faulty.status, faulty.code, faulty.is_silent = status, code, is_silent
        for call in (
            shelf.holds(TRACK),
            shelf.has_all([TRACK]),
            shelf.crc32(NAME),
            shelf.deliver(TRACK, may_redirect=False),
            shelf.names(older_than_seconds=0.0),
            shelf.mark(),
            shelf.delete(NAME),
        ):
            with pytest.raises(ShelfDown):
                await call
        assert not await shelf.is_damaged(TRACK)


async def test_a_failed_request_is_repeated_a_few_times(faulty: FaultyServer, tmp_path: Path) -> None:
    limits = Limits(request_seconds=30.0, retries=2, retry_seconds=60.0)
    shelf = await open_shelf(settings_of(faulty), limits=limits)
    with pytest.raises(ShelfDown):
        await publish(shelf, tmp_path)
    assert faulty.asked == ["PUT"] * 3
    faulty.asked.clear()
    faulty.status, faulty.code = 403, "AccessDenied"
    with pytest.raises(ShelfDown):
        await publish(shelf, tmp_path)
    assert faulty.asked == ["PUT"], "a refusal is final"


async def test_a_full_bucket_has_no_space_and_another_fault_is_an_error(faulty: FaultyServer, tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", instance=InstanceId("a"))
    await scratch.open()
    files = Files(shelf=await open_shelf(settings_of(faulty)), scratch=scratch)
    faulty.status = 507
    assert (await files.check()).is_low
    faulty.status, faulty.code = 403, "AccessDenied"
    with pytest.raises(ShelfDown, match="AccessDenied"):
        await files.check()


async def test_checks_are_rare_while_all_is_well_and_at_once_after_a_failed_upload(
    s3_server: S3Server, faulty: FaultyServer, tmp_path: Path
) -> None:
    settings = s3_server.settings(uuid4().hex)
    shelf = await open_shelf(settings, limits=IMPATIENT)
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    shelf.try_publishing(probe)
    # The object store is gone. Nothing has failed yet, so the next check is not due.
    shelf._quick = Bucket(settings_of(faulty), QUICK)
    faulty.status = 403
    probe.write_bytes(b"x")
    shelf.try_publishing(probe)
    assert faulty.asked == []
    shelf._bucket = Bucket(settings_of(faulty), IMPATIENT)
    with pytest.raises(ShelfDown):
        await publish(shelf, tmp_path)
    probe.write_bytes(b"x")
    # In a thread, because the event loop runs the server that refuses.
    with pytest.raises(ShelfDown):
        await asyncio.to_thread(shelf.try_publishing, probe)
