"""`GET /listen/ID.mp3`: the sound from its first frame, while it is encoded, for any number of listeners."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError

from tests.fakes import content_of
from tests.http.deaf_clients import ask_for, deaf_clients
from tests.http.played_encoder import FRAME_BYTES, INFO_BYTES, PlayedEncoder, encoder_of, frames
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import until
from ytmp3.core.errors import FailureCode
from ytmp3.http.connections import Timeouts
from ytmp3.http.keys import key_line, new_secret
from ytmp3.serve import drain

VIDEO = "dQw4w9WgXcQ"
OTHER_VIDEO = "aqz-KE-bpKQ"
LISTENERS = 50
NEVER_SECONDS = 3600.0


async def begun(service: RunningService, folder: Path, video_id: str = VIDEO) -> tuple[str, PlayedEncoder]:
    """Submit a video that is held; return its `listen_url`, and its encoder, which has begun."""
    service.converter.hold(video_id)
    job = await service.submit(video_id)
    encoder = await encoder_of(service, video_id, folder)
    encoder.begin()
    return service.url + job["listen_url"], encoder


async def test_a_listener_hears_each_frame_when_it_is_written_and_the_end_when_the_track_is_ready(
    service: RunningService, tmp_path: Path
) -> None:
    may_convert = service.converter.hold(VIDEO)
    job = await service.submit(VIDEO)
    url = service.url + job["listen_url"]
    # It may ask before there is anything to hear.
    asking = asyncio.create_task(service.client.get(url))
    encoder = await encoder_of(service, VIDEO, tmp_path)
    encoder.begin()
    assert not asking.done()
    encoder.write(2)
    async with await asking as response:
        assert (response.status, response.content_type) == (200, "audio/mpeg")
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Accept-Ranges"] == "none"
        assert "ETag" not in response.headers
        info = await response.content.readexactly(INFO_BYTES)
        assert info[36:44] == b"Info" + (1).to_bytes(4)
        # 3 s at 44.1 kHz and the delays of encoder and decoder are 116 frames.
        assert int.from_bytes(info[44:48]) == 116
        assert await response.content.readexactly(2 * FRAME_BYTES) == frames(2)
        encoder.write(3)
        assert await response.content.readexactly(3 * FRAME_BYTES) == frames(3, 2)
        async with service.client.get(url) as late:
            assert (await late.content.readexactly(INFO_BYTES + 5 * FRAME_BYTES))[INFO_BYTES:] == frames(5)
            assert service.parts.listeners.active == 2
            may_convert.set()
            assert (await response.read(), await late.read()) == (b"", b"")
    ended = await service.ended(job["job_id"])
    assert ended["listen_url"] is None
    async with service.client.get(url, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (307, ended["download_url"])
    async with service.client.head(url, allow_redirects=False) as response:
        assert response.status == 307


@pytest.mark.parametrize("how", ["a second encoder", "a failure", "a cancellation"])
async def test_sound_that_ends_early_is_an_incomplete_response(
    service: RunningService, tmp_path: Path, how: str
) -> None:
    url, encoder = await begun(service, tmp_path)
    encoder.write(5)
    async with service.client.get(url) as response:
        await response.content.readexactly(INFO_BYTES + 5 * FRAME_BYTES)
        match how:
            case "a second encoder":
                encoder.sound.withdraw()
                encoder.begin()
                encoder.write(50)
            case "a failure":
                service.converter.fail(VIDEO, FailureCode.OUTPUT_TRUNCATED)
                service.converter.held[VIDEO].set()
            case _:
                await service.client.delete(f"{service.url}/jobs/{url.split('/')[-1].partition('.')[0]}")
        with pytest.raises(ClientPayloadError):
            await response.content.readexactly(1)
    async with service.client.get(f"{service.url}/metrics") as response:
        assert 'ytmp3_listens_total{how="broken"} 1.0' in await response.text()


async def test_fifty_listeners_share_one_conversion_and_leave_nothing_behind(tmp_path: Path) -> None:
    """Every third one reads slowly, every third one leaves, and the others hear all of it."""
    # On a busy machine, the slow ones wait longer than the usual limits allow.
    async with running_service(tmp_path / "data", Timeouts(stall_seconds=NEVER_SECONDS)) as service:
        service.parts.listeners.stall_seconds = NEVER_SECONDS
        await _serve_fifty_listeners(service, tmp_path)


async def _serve_fifty_listeners(service: RunningService, tmp_path: Path) -> None:
    url, encoder = await begun(service, tmp_path)
    encoder.write(1)
    tasks = len(asyncio.all_tasks())
    heard_by_all = 0

    async def hear(number: int) -> bytes:
        nonlocal heard_by_all
        async with service.client.get(url) as response:
            first = await response.content.readexactly(INFO_BYTES + FRAME_BYTES)
            heard_by_all += 1
            if number % 3 == 1:
                return first
            return first + await response.read()

    deaf = LISTENERS // 3
    async with deaf_clients(service.host, service.port, deaf) as slow:
        await ask_for(slow, url.removeprefix(service.url))
        hearing = [asyncio.create_task(hear(number)) for number in range(LISTENERS - deaf)]
        await until(lambda: heard_by_all == len(hearing), "each listener hears the first frame")
        await until(lambda: service.parts.sender.active >= deaf, "the slow ones are served as well")
        while encoder.written < 12_000:  # 5 MB: more than the sockets of a client that does not read can hold
            encoder.write(1000)
            await asyncio.sleep(0)
        service.converter.held[VIDEO].set()
        sounds = await asyncio.gather(*hearing)
        whole = frames(encoder.written)
        for number, sound in enumerate(sounds):
            assert sound[INFO_BYTES:] == (frames(1) if number % 3 == 1 else whole), number
        assert service.converter.started[VIDEO] == 1
        # The slow ones still read the file, which was removed with the folder of the attempt.
        assert service.parts.listeners.active == deaf
        encoder.path.unlink()
        rest = await _received(slow[0])
        assert rest.endswith(whole[-FRAME_BYTES:] + b"\r\n0\r\n\r\n")
    await until(lambda: service.parts.listeners.active == 0, "no listener is left")
    await until(lambda: not _open_descriptors(encoder.path), "no descriptor is left")
    await until(lambda: len(asyncio.all_tasks()) <= tasks, "no task is left")
    assert service.parts.sender.active == 0


async def _received(client: socket.socket) -> bytes:
    """Read until a whole chunked response has arrived."""
    received = bytearray()
    while not received.endswith(b"\r\n0\r\n\r\n"):
        received += await asyncio.get_running_loop().sock_recv(client, 2**20)
    return bytes(received)


def _open_descriptors(path: Path) -> list[str]:
    """Return the descriptors of this process that are open on a file, which may have been removed."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(str(path)):
                found.append(link.name)
    return found


async def test_a_listener_that_leaves_is_gone_at_once_and_one_that_stalls_is_cut_off(
    service: RunningService, tmp_path: Path
) -> None:
    service.parts.listeners.stall_seconds = 0.2
    url, encoder = await begun(service, tmp_path)
    path = url.removeprefix(service.url)
    async with deaf_clients(service.host, service.port, 2) as clients:
        # The first one leaves while nothing can be heard yet, and no byte is sent that could fail.
        await ask_for(clients[:1], path)
        await until(lambda: service.parts.sender.active == 1, "the listener waits")
        clients[0].close()
        await until(lambda: service.parts.sender.active == 0, "the listener that left is not counted")
        encoder.write(12_000)
        await ask_for(clients[1:], path)
        await until(lambda: service.parts.listeners.active == 1, "the other one listens")
        await until(lambda: service.parts.listeners.active == 0, "the one that does not read is cut off")
    async with service.client.get(f"{service.url}/metrics") as response:
        assert 'ytmp3_listens_total{how="stalled"} 1.0' in await response.text()
    await until(lambda: not _open_descriptors(encoder.path), "no descriptor is left")


async def test_a_response_without_sound_has_a_retry_after(service: RunningService, tmp_path: Path) -> None:
    service.parts.listeners.wait_seconds = 0.1
    service.converter.hold(VIDEO)
    job = await service.submit(VIDEO)
    path = job["listen_url"]
    headers = await expect_problem(service, "GET", path, 409, "not_ready")
    assert headers["Retry-After"] == "2"
    async with service.client.head(service.url + path) as response:
        assert (response.status, response.headers["Accept-Ranges"]) == (200, "none")
    other = await service.submit(OTHER_VIDEO, format="m4a")
    assert other["listen_url"] is None
    await expect_problem(service, "GET", f"/listen/{other['job_id']}.mp3", 409, "not_listenable")
    await expect_problem(service, "GET", path.replace(".mp3", ".m4a"), 404, "not_found")
    await expect_problem(service, "GET", "/listen/none.mp3", 404, "job_unknown")
    await service.client.delete(f"{service.url}/jobs/{job['job_id']}")
    await expect_problem(service, "GET", path, 410, "cancelled")


async def test_a_drain_breaks_the_sound_and_another_instance_is_the_one_to_ask(
    service: RunningService, tmp_path: Path
) -> None:
    url, encoder = await begun(service, tmp_path)
    encoder.write(1)
    async with service.client.get(url) as response:
        await response.content.readexactly(INFO_BYTES + FRAME_BYTES)
        draining = asyncio.create_task(drain(service.parts, asyncio.Event()))
        with pytest.raises(ClientPayloadError):
            await response.content.readexactly(1)
    headers = await expect_problem(service, "GET", url.removeprefix(service.url), 409, "not_ready")
    assert headers["Retry-After"] == "1"
    await draining


async def test_a_listener_is_one_of_the_transfers_of_its_client(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", CLIENT_MAX_DOWNLOADS="1") as service:
        url, encoder = await begun(service, tmp_path)
        encoder.write(1)
        async with service.client.get(url) as response:
            await response.content.readexactly(INFO_BYTES)
            await expect_problem(service, "GET", url.removeprefix(service.url), 429, "client_quota")


async def test_a_signed_link_opens_the_sound_and_then_the_track(tmp_path: Path) -> None:
    secret = new_secret(b"a" * 24)
    keys = tmp_path / "keys"
    keys.write_text(key_line("alice", secret) + "\n")
    settings = {"API_KEYS_FILE": str(keys), "DOWNLOAD_LINK_SECONDS": "3600"}
    async with running_service(tmp_path / "data", **settings) as service:
        service.client.headers["X-API-Key"] = secret
        url, encoder = await begun(service, tmp_path)
        del service.client.headers["X-API-Key"]
        assert "?until=" in url
        await expect_problem(service, "GET", url.removeprefix(service.url).partition("?")[0], 401, "unauthorized")
        encoder.write(1)
        async with service.client.get(url) as response:
            await response.content.readexactly(INFO_BYTES + FRAME_BYTES)
            service.converter.held[VIDEO].set()
            assert await response.read() == b""
        async with service.client.get(url) as response:
            assert (response.status, await response.read()) == (200, content_of(VIDEO))
