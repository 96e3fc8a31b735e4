"""The service below a path of another site: the proxy of docs/install.md in front of the service or of our nginx."""

import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.documents.pages import DOCS
from tests.http.running_service import running_service
from tests.stand.nginx import Nginx, running_nginx, write_configuration
from tests.stand.ports import free_port
from tests.system.behind_nginx import ACCEL_PREFIX
from ytmp3.http.page.handlers import MAX_FORM_LINKS


async def start_documented_proxy(stack: AsyncExitStack, folder: Path, upstream: str) -> Nginx:
    """Start an nginx with the location of docs/install.md, in front of `upstream` (`host:port`)."""
    (location,) = [block.text for block in DOCS["install"].blocks if block.language == "nginx"]
    nginx = Nginx(folder, free_port())
    write_configuration(folder, port=nginx.port, upstreams=[upstream], tracks=folder, is_limited=False)
    (folder / "site.conf").write_text(location.replace("127.0.0.1:8080", upstream))
    await nginx.start()
    stack.push_async_callback(nginx.stop)
    return nginx


@pytest.mark.parametrize("proxies", [1, 2])
async def test_every_address_in_a_response_can_be_followed(tmp_path: Path, proxies: int) -> None:
    settings = {"PUBLIC_URL": "https://example.org/ytmp3", "TRUSTED_PROXIES": "127.0.0.1"}
    if proxies == 2:
        settings["ACCEL_REDIRECT_PREFIX"] = ACCEL_PREFIX
    async with running_service(tmp_path / "data", **settings) as service, AsyncExitStack() as stack:
        upstream = f"{service.host}:{service.port}"
        if proxies == 2:
            tracks = service.data_dir / "tracks"
            ours = running_nginx(tmp_path / "ours", [upstream], tracks, is_limited=False)
            upstream = f"127.0.0.1:{(await stack.enter_async_context(ours)).port}"
        site = (await start_documented_proxy(stack, tmp_path / "outer", upstream)).url
        link = {"url": "https://youtu.be/dQw4w9WgXcQ"}
        async with service.client.post(f"{site}/ytmp3/extract", json=link) as response:
            assert response.status in {200, 202}
            job = await response.json()
            assert response.headers["Location"] == job["status_url"]
        await service.ended(job["job_id"])
        async with service.client.get(site + job["status_url"]) as response:
            job = await response.json()
        async with service.client.get(site + job["download_url"]) as response:
            assert (response.status, len(await response.read())) == (200, job["file"]["size_bytes"])
        async with service.client.post(f"{site}/ytmp3/probe", json=link) as response:
            assert (response.status, (await response.json())["video_id"]) == (200, job["video_id"])
        async with service.client.get(f"{site}/ytmp3/openapi.json") as response:
            assert (await response.json())["servers"] == [{"url": "/ytmp3"}]
        async with service.client.get(f"{site}/ytmp3/") as response:
            page = await response.text()
        for path in set(re.findall(r'(?:src|href)="(/[^"]+)"', page)):
            async with service.client.get(site + path) as response:
                assert response.status == 200, path
        async with service.client.post(
            f"{site}/ytmp3/convert", data={"links": "dQw4w9WgXcQ " * MAX_FORM_LINKS}, allow_redirects=False
        ) as response:
            assert response.status == 303
        async with service.client.get(site + response.headers["Location"]) as response:
            assert (await response.text()).count(">Download</a></div></li>") == MAX_FORM_LINKS
