"""A download may connect only to YouTube's hosts over TLS at public addresses, also after a redirect."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.pipeline import running_pipeline
from tests.stand.service_process import egress, service_process
from ytmp3.converter.youtube.egress import YoutubeOnly, is_youtube_address, public_only
from ytmp3.core.errors import ConversionError, FailureCode


@pytest.mark.parametrize(
    "url",
    [
        "https://www.youtube.com/watch?v=x", "https://youtube.com/", "https://r1---sn-a.googlevideo.com/videoplayback",
        "https://i.ytimg.com/vi/x/hq720.jpg", "https://www.youtube.com:443/", "https://youtubei.googleapis.com/",
    ],
)  # fmt: skip
def test_a_host_of_youtube_is_allowed(url: str) -> None:
    assert is_youtube_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://www.youtube.com/", "https://169.254.169.254/", "http://127.0.0.1/", "https://[::1]/", "ftp://youtube.com/",
        "https://youtube.com.evil.example/", "https://evilyoutube.com/", "https://www.youtube.com:22/", "file:///etc/passwd",
        "https://youtube.com@127.0.0.1/", "https://localhost/", "data:text/plain,x", "https:///x", "https://googlevideo.com./",
    ],
)  # fmt: skip
def test_any_other_host_scheme_or_port_is_refused(url: str) -> None:
    assert not is_youtube_address(url)
    with pytest.raises(urllib.error.URLError):
        YoutubeOnly().https_request(urllib.request.Request(url))


@pytest.mark.parametrize("kind", [Kind.TO_METADATA, Kind.TO_LOOPBACK, Kind.TO_ITSELF])
async def test_a_redirect_into_the_private_network_is_not_followed(
    youtube: Spawned, tmp_path: Path, kind: Kind
) -> None:
    async with service_process(tmp_path, MAX_JOB_RETRIES="0", **egress(youtube)) as service:
        _, job = await service.post(watch_url(video_id(kind, 31)))
        job = await service.until(job["job_id"])
        assert (job["status"], job["error"]["code"]) == ("failed", "upstream_error")
    assert youtube.trapped == 0
    assert not [host for host in youtube.refused if "169.254" in host or "127.0.0.1" in host]


# A zygote for which a hostile name server resolves every name to these addresses. The names are written to a file
# in the working folder, the only one that the child may write to.
REBOUND = """
import json, socket, sys
from ytmp3.converter.youtube.__main__ import main
addresses, port = json.loads(sys.argv[1]), int(sys.argv[2])
def resolve(host, *arguments, **options):
    with open("asked", "a") as file:
        file.write(host + chr(10))
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, port, 0, 0)) if ":" in each
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
        for each in addresses
    ]
socket.getaddrinfo = resolve
main()
"""


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.1"], ["::ffff:127.0.0.1"], ["0.0.0.0"]])
async def test_a_host_of_youtube_at_a_private_address_is_not_connected_to(
    youtube: Spawned, tmp_path: Path, addresses: list[str]
) -> None:
    connections = 0

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    trap = await asyncio.start_server(count, "::", 0, family=socket.AF_INET6)
    async with trap:
        port = trap.sockets[0].getsockname()[1]
        async with running_pipeline(
            youtube, tmp_path, has_proxy=False, zygote=(REBOUND, json.dumps(addresses), str(port))
        ) as own:
            with pytest.raises(ConversionError, match="no public address") as failure:
                await own.convert(video_id(Kind.SHORT))
        assert failure.value.code is FailureCode.UPSTREAM_UNREACHABLE
        assert "www.youtube.com" in (tmp_path / "scratch-1" / "asked").read_text()
        assert connections == 0


def test_only_the_public_ones_of_mixed_addresses_are_left() -> None:
    responses = [["8.8.8.8"], ["127.0.0.1", "8.8.4.4", "::1", "2606:4700:4700::1111"], ["10.0.0.1"], []]

    def rebinding(host: str, port: int, *, family: int = 0) -> list[Any]:
        assert (host, port, family) == ("www.youtube.com", 443, 7)
        return [(family, socket.SOCK_STREAM, 6, "", (each, port)) for each in responses.pop(0)]

    resolve = public_only(rebinding)
    resolved = [[each[4][0] for each in resolve("www.youtube.com", 443, family=7)] for _ in range(2)]
    assert resolved == [["8.8.8.8"], ["8.8.4.4", "2606:4700:4700::1111"]]
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            resolve("www.youtube.com", 443, family=7)
