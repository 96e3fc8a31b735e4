"""Answers that nginx makes itself can be read by pages of the origins that cors.conf names."""

from pathlib import Path

import aiohttp
import pytest

from tests.stand.nginx import Nginx, write_configuration
from tests.stand.ports import free_port

ORIGIN = "https://app.example"


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/status/x", 503)])
async def test_a_listed_origin_can_read_nginxs_own_errors(tmp_path: Path, path: str, status: int) -> None:
    nginx = Nginx(tmp_path / "nginx", free_port())
    nobody = f"127.0.0.1:{free_port()}"
    write_configuration(nginx.folder, port=nginx.port, upstreams=[nobody], tracks=tmp_path, is_limited=True)
    cors = nginx.folder / "cors.conf"
    cors.write_text(
        cors.read_text().replace('    default "";\n}', f'    default "";\n    {ORIGIN} $http_origin;\n}}', 1)
    )
    await nginx.start()
    try:
        async with aiohttp.ClientSession() as client:
            async with client.get(nginx.url + path, headers={"Origin": ORIGIN}) as response:
                assert response.status == status
                assert response.headers.getall("Access-Control-Allow-Origin") == [ORIGIN]
                assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
                assert response.headers["Vary"] == "Origin"
            for headers in ({}, {"Origin": "https://evil.example"}):
                async with client.get(nginx.url + path, headers=headers) as response:
                    assert response.status == status
                    assert "Access-Control-Allow-Origin" not in response.headers
                    assert "Access-Control-Expose-Headers" not in response.headers
    finally:
        await nginx.stop()
