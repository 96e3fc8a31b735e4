"""Where the tools may go: YouTube's hosts over TLS, whatever a redirect says (A138, goal S04's allow-list)."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.process.served import egress, served
from ytmp3.converter.youtube import _YoutubeOnly, is_youtube_address


@pytest.mark.parametrize(
    "url",
    [
        "https://www.youtube.com/watch?v=x", "https://youtube.com/", "https://r1---sn-a.googlevideo.com/videoplayback",
        "https://i.ytimg.com/vi/x/hq720.jpg", "https://www.youtube.com:443/", "https://youtubei.googleapis.com/",
    ],
)  # fmt: skip
def test_youtube_is_reached(url: str) -> None:
    assert is_youtube_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://www.youtube.com/", "https://169.254.169.254/", "http://127.0.0.1/", "https://[::1]/", "ftp://youtube.com/",
        "https://youtube.com.evil.example/", "https://evilyoutube.com/", "https://www.youtube.com:22/", "file:///etc/passwd",
        "https://youtube.com@127.0.0.1/", "https://localhost/", "data:text/plain,x", "https:///x", "https://googlevideo.com./",
    ],
)  # fmt: skip
def test_nothing_else_is(url: str) -> None:
    assert not is_youtube_address(url)
    with pytest.raises(urllib.error.URLError):
        _YoutubeOnly().https_request(urllib.request.Request(url))


@pytest.mark.parametrize("kind", [Kind.TO_METADATA, Kind.TO_LOOPBACK, Kind.TO_ITSELF])
async def test_a_redirect_into_our_network_is_not_taken(youtube: Spawned, tmp_path: Path, kind: Kind) -> None:
    async with served(tmp_path, MAX_JOB_RETRIES="0", **egress(youtube)) as service:
        _, job = await service.post(watch_url(video_id(kind, 31)))
        job = await service.until(job["job_id"])
        assert (job["status"], job["error"]["code"]) == ("failed", "upstream_error")
    assert youtube.trapped == 0
    assert not [host for host in youtube.refused if "169.254" in host or "127.0.0.1" in host]
