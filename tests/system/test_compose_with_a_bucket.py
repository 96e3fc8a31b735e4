"""The settings of docker-compose.yml with docker-compose.s3.yml, without Docker: the same programs as plain processes.

nginx is in front of two instances with a Valkey and an object store, and has no folder of tracks. This does not cover
what Docker adds: the names of containers, their networks, mounts and limits.
"""

import asyncio
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.ops.files import ROOT, compose, interpolated
from tests.stand.logs import showing_logs
from tests.stand.nginx import running_nginx
from tests.stand.s3_server import S3Server
from tests.stand.service_process import ServiceProcess, egress
from tests.stand.valkey import Valkey

pytestmark = pytest.mark.xdist_group("s3")

S3_FILE = (ROOT / "docker-compose.s3.yml").read_text()


def environment(operator: dict[str, str]) -> dict[str, str]:
    """Return what the container `api` gets in its environment, with these lines in `.env`."""
    merged = compose(**operator)["services"]["api"]["environment"]
    merged |= interpolated(S3_FILE, operator)["services"]["api"]["environment"]
    return {name: "" if value is None else str(value) for name, value in merged.items()}


async def test_every_instance_serves_tracks_that_only_the_bucket_has(
    youtube: Spawned, s3_server: S3Server, tmp_path: Path
) -> None:
    operator = egress(youtube) | s3_server.environment(uuid4().hex)
    password = environment(operator)["REDIS_PASSWORD"]
    valkey = Valkey(tmp_path, settings={"maxmemory-policy": "noeviction", "requirepass": password})
    async with AsyncExitStack() as stack:
        stack.callback(valkey.stop)
        await asyncio.to_thread(valkey.start)
        # The names and folders of containers do not exist here.
        here = {"HOST": "127.0.0.1", "PORT": "0", "REDIS_ADDR": valkey.address, "TRUSTED_PROXIES": "127.0.0.1"}
        services = []
        for number, download in enumerate(("proxy", "redirect")):
            own = {"DATA_DIR": str(tmp_path / f"data-{number}")}
            settings = environment(operator | {"S3_DOWNLOAD": download}) | here | own
            services.append(ServiceProcess(settings, tmp_path / f"instance-{number}.log"))
            stack.push_async_callback(services[-1].stop)
            stack.push_async_callback(services[-1].client.close)
        stack.enter_context(showing_logs(*(service.log_path for service in services)))
        await asyncio.gather(*(service.start() for service in services))
        addresses = [service.url.removeprefix("http://") for service in services]
        no_tracks = tmp_path / "no-tracks"
        no_tracks.mkdir()
        nginx = await stack.enter_async_context(
            running_nginx(tmp_path / "nginx", addresses, no_tracks, is_limited=False)
        )
        proxying, redirecting = services
        job = await proxying.until((await proxying.submit(watch_url(video_id(Kind.SHORT, 1))))["job_id"])
        assert job["status"] == "completed", job
        sums = set()
        # nginx asks both instances in turn: one sends the track through nginx, the other one lets the bucket send it.
        for _ in range(4):
            async with redirecting.client.get(nginx.url + job["download_url"]) as response:
                assert response.status == 200
                sums.add(hashlib.sha256(await response.read()).hexdigest())
        assert sums == {job["file"]["sha256"]}
        async with redirecting.client.get(redirecting.url + job["download_url"], allow_redirects=False) as response:
            assert response.status == 307
            assert response.headers["Location"].startswith(s3_server.endpoint)
        assert not list(tmp_path.glob("data-*/tracks"))
        again = await redirecting.submit(watch_url(video_id(Kind.SHORT, 1)))
        assert (again["status"], again["deduplicated"]) == ("completed", True)
