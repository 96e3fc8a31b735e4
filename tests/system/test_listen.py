"""Sound through nginx with the production files: it arrives while it is encoded, and what breaks it stays visible."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError, ClientSession, DummyCookieJar, web

from tests.fakes import FakeConverter
from tests.http.played_encoder import FRAME_BYTES, INFO_BYTES, PlayedEncoder, encoder_of, frames
from tests.stand.nginx import Nginx, running_kubernetes_nginx, running_nginx
from tests.stand.ports import free_port
from tests.stand.silent_address import silent_address
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from tests.system.behind_nginx import BehindNginx, behind_nginx
from ytmp3.app import Service, running
from ytmp3.config import load
from ytmp3.core.errors import FailureCode
from ytmp3.http.connections import Runner

VIDEO = "dQw4w9WgXcQ"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[BehindNginx]:
    async with behind_nginx(tmp_path) as running:
        yield running


async def begun(site: BehindNginx, folder: Path) -> tuple[str, PlayedEncoder]:
    site.service.converter.hold(VIDEO)
    job = await site.service.submit(VIDEO)
    encoder = await encoder_of(site.service, VIDEO, folder)
    encoder.begin()
    encoder.write(1)
    return site.url + job["listen_url"], encoder


async def test_each_frame_arrives_at_once_and_the_end_redirects_to_the_track(site: BehindNginx, tmp_path: Path) -> None:
    url, encoder = await begun(site, tmp_path)
    client = site.service.client
    async with client.get(url) as response:
        assert response.headers["Cache-Control"] == "no-store"
        await response.content.readexactly(INFO_BYTES)
        for number in range(3):
            # The next frame is written only when this one has arrived.
            assert await response.content.readexactly(FRAME_BYTES) == frames(1, number)
            encoder.write(1)
        async with client.get(url) as other:
            await other.content.readexactly(INFO_BYTES)
        await until(lambda: site.service.parts.listeners.active == 1, "the listener that left is not counted")
        site.service.converter.held[VIDEO].set()
        assert await response.read() == frames(1, 3)
    async with client.get(url, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (
            307,
            url.removeprefix(site.url).replace("listen", "download"),
        )


async def test_a_failed_conversion_is_no_complete_response(site: BehindNginx, tmp_path: Path) -> None:
    url, _ = await begun(site, tmp_path)
    async with site.service.client.get(url) as response:
        await response.content.readexactly(INFO_BYTES + FRAME_BYTES)
        site.service.converter.fail(VIDEO, FailureCode.OUTPUT_TRUNCATED)
        site.service.converter.held[VIDEO].set()
        with pytest.raises(ClientPayloadError):
            await response.read()


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """Several instances with one Valkey and one folder of tracks."""

    urls: list[str]
    parts: list[Service]
    converters: list[FakeConverter]


@asynccontextmanager
async def several_instances(folder: Path, count: int) -> AsyncIterator[Several]:
    (folder / "valkey").mkdir()
    valkey = Valkey(folder / "valkey", settings={"maxmemory-policy": "noeviction"})
    several = Several(urls=[], parts=[], converters=[FakeConverter() for _ in range(count)])
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(valkey.start)
        stack.callback(valkey.stop)
        settings = {"REDIS_ADDR": valkey.address, "DATA_DIR": str(folder / "data"), "BURST_SIZE": "100000"}
        config = load(settings | {"TRUSTED_PROXIES": "127.0.0.1"})
        for converter in several.converters:
            parts = await stack.enter_async_context(running(config, lambda *_, own=converter: own))
            runner = Runner(parts.app, shutdown_seconds=1.0, limit=parts.connections)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            several.parts.append(parts)
            several.urls.append("http://{}:{}".format(*runner.addresses[0][:2]))
        for parts in several.parts:
            await until(partial(_is_ready, parts), "every instance is ready")
        yield several


def _is_ready(parts: Service) -> bool:
    return parts.health.is_ready


def nginx_of(several: Several, folder: Path, first: int = 0) -> AbstractAsyncContextManager[Nginx]:
    """Return nginx in front of the instances from the number `first` on."""
    upstreams = [url.removeprefix("http://") for url in several.urls[first:]]
    return running_nginx(folder / f"nginx-{first}", upstreams, folder / "data" / "tracks", is_limited=False)


def kubernetes_nginx_of(several: Several, folder: Path, first: int = 0) -> AbstractAsyncContextManager[Nginx]:
    """Return the nginx of `k8s/listen.yaml` in front of the same instances."""
    upstreams = [url.removeprefix("http://") for url in several.urls[first:]]
    return running_kubernetes_nginx(folder / f"nginx-{first}", upstreams)


async def converting(several: Several, client: ClientSession, folder: Path) -> tuple[str, PlayedEncoder]:
    """Let the first instance convert a video; return the path of its sound and the encoder, which has begun."""
    converter = several.converters[0]
    converter.hold(VIDEO)
    async with client.post(f"{several.urls[0]}/extract", json={"url": VIDEO}) as response:
        path: str = (await response.json())["listen_url"]
    await until(lambda: VIDEO in converter.running, "the conversion runs")
    encoder = PlayedEncoder(converter.sounds[VIDEO], folder / "sound.mp3")
    encoder.begin()
    encoder.write(1)
    return path, encoder


@pytest.mark.parametrize("count", [2, 3, 5])
async def test_one_request_reaches_the_instance_that_has_the_sound(tmp_path: Path, count: int) -> None:
    async with (
        several_instances(tmp_path, count) as several,
        nginx_of(several, tmp_path) as nginx,
        ClientSession(cookie_jar=DummyCookieJar()) as client,
    ):
        path, encoder = await converting(several, client, tmp_path)
        url = nginx.url + path
        listening = [await client.get(url) for _ in range(3 * count)]
        for response in listening:
            assert (response.status, response.content_type) == (200, "audio/mpeg")
            assert (await response.content.readexactly(INFO_BYTES + FRAME_BYTES))[INFO_BYTES:] == frames(1)
        assert several.parts[0].listeners.active == len(listening)
        encoder.write(1)
        several.converters[0].held[VIDEO].set()
        for response in listening:
            assert await response.read() == frames(1, 1)
        async with client.get(url, allow_redirects=False) as response:
            assert response.status == 307

        def asked() -> list[str]:
            """Return for each request that got sound the statuses of all instances that were asked, by nginx' log."""
            requests = map(json.loads, (nginx.folder / "access.log").read_text().splitlines())
            return [request["upstream_status"] for request in requests if request["status"] == 200]

        # nginx logs a request when it has ended, a moment after its last byte.
        await until(lambda: len(asked()) == len(listening), "every request is in the log")
        assert any(statuses.startswith("503") for statuses in asked()), "some requests reached another instance first"
        assert max(statuses.count(",") for statuses in asked()) < count, "each instance is asked at most once"


@pytest.mark.parametrize("count", [2, 5])
async def test_in_kubernetes_too_one_request_reaches_the_instance_that_has_the_sound(
    tmp_path: Path, count: int
) -> None:
    async with (
        several_instances(tmp_path, count) as several,
        kubernetes_nginx_of(several, tmp_path) as nginx,
        ClientSession(cookie_jar=DummyCookieJar()) as client,
    ):
        path, encoder = await converting(several, client, tmp_path)
        listening = [await client.get(nginx.url + path) for _ in range(2 * count)]
        for response in listening:
            assert (response.status, response.content_type) == (200, "audio/mpeg")
            assert (await response.content.readexactly(INFO_BYTES + FRAME_BYTES))[INFO_BYTES:] == frames(1)
        encoder.write(1)
        several.converters[0].held[VIDEO].set()
        for response in listening:
            assert await response.read() == frames(1, 1)
        async with client.get(nginx.url + path, allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (307, path.replace("listen", "download"))


@pytest.mark.parametrize("nginx_of_all", [nginx_of, kubernetes_nginx_of])
async def test_an_instance_that_cannot_be_connected_to_is_passed_over(
    tmp_path: Path, nginx_of_all: Callable[[Several, Path], AbstractAsyncContextManager[Nginx]]
) -> None:
    async with (
        several_instances(tmp_path, 1) as several,
        ClientSession(cookie_jar=DummyCookieJar()) as client,
    ):
        path, _ = await converting(several, client, tmp_path)
        with silent_address() as (host, port):
            several.urls.append(f"http://{host}:{port}")
            async with nginx_of_all(several, tmp_path) as nginx:
                for _ in range(2):
                    async with client.get(nginx.url + path) as response:
                        assert response.status == 200


async def test_in_kubernetes_nginx_reports_that_no_instance_answers(tmp_path: Path) -> None:
    async with (
        running_kubernetes_nginx(tmp_path / "nginx", [f"127.0.0.1:{free_port()}"]) as nginx,
        ClientSession(cookie_jar=DummyCookieJar()) as client,
    ):
        async with client.get(f"{nginx.url}/listen/{'0' * 34}.mp3") as response:
            assert (response.status, response.content_type) == (503, "application/problem+json")
            assert response.headers["Retry-After"] == "2"
            assert (await response.json())["code"] == "unavailable"
        async with client.get(f"{nginx.url}/_alive") as response:
            assert response.status == 204, "nginx itself is alive"


@pytest.mark.parametrize("nginx_of_rest", [nginx_of, kubernetes_nginx_of])
async def test_sound_of_an_instance_that_nginx_does_not_reach_is_a_conflict_with_a_retry_after(
    tmp_path: Path, nginx_of_rest: Callable[[Several, Path, int], AbstractAsyncContextManager[Nginx]]
) -> None:
    async with (
        several_instances(tmp_path, 3) as several,
        nginx_of_rest(several, tmp_path, 1) as nginx,
        ClientSession(cookie_jar=DummyCookieJar()) as client,
    ):
        path, _ = await converting(several, client, tmp_path)
        # Through nginx and without it, the response is the same.
        for url in (nginx.url, several.urls[1]):
            async with client.get(url + path) as response:
                assert (response.status, response.content_type) == (409, "application/problem+json")
                assert (response.headers["Retry-After"], response.headers["Cache-Control"]) == ("1", "no-store")
                assert "X-Accel-Redirect" not in response.headers
                problem = await response.json()
                assert (problem["status"], problem["code"]) == (409, "not_ready")
        async with client.get(f"{nginx.url}/_sound-elsewhere") as response:
            assert response.status == 404, "the address is for nginx itself"
