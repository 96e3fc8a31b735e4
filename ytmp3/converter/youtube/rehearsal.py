"""A first extraction before the fork, against canned responses, so that what it loads is shared by all children.

It compiles regular expressions, fills tables and imports modules that yt-dlp loads on first use.
"""

import io
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import json
from yt_dlp.networking import Response

from ytmp3.converter.youtube.downloader import Downloader
from ytmp3.core.ids import VideoId

VIDEO_ID: Final = VideoId("rehearsal00")


class RehearsalDownloader(Downloader):
    """Answers every request from memory."""

    def __init__(self, params: dict[str, Any], tls: Any, deno: Any) -> None:
        self.player_response = json.encode(PLAYER)
        """The answer to a player request; at first that of an ordinary video."""
        self.player_script = b""
        super().__init__(params, tls, deno)

    def to_stderr(self, *_: Any, **__: Any) -> None:
        """Drop warnings: they are about fields that the canned responses do not have."""

    def urlopen(self, request: Any) -> Response:
        """Answer a player request, one for the player's script, and every other request with the video's page."""
        url = request if isinstance(request, str) else request.url
        path = urlsplit(url).path
        if path.endswith(".js"):
            body = self.player_script
        elif "/player" in path:
            body = self.player_response
        else:
            body = _PAGE
        return Response(io.BytesIO(body), url, {"Content-Type": "text/html; charset=utf-8"})


# The fields that YouTube sends for an ordinary video: each makes yt-dlp load the code that reads it.
_PAGE: Final = (
    b'<html><body><script>ytcfg.set({"STS":20000,"PLAYER_JS_URL":"/s/player/00000000/player_ias.vflset/en_US/base.js",'
    b'"INNERTUBE_CONTEXT":{"client":{"clientName":"WEB","clientVersion":"2.0"}}});</script>'
    b"<script>var ytInitialPlayerResponse = {};</script>"
    b'<script>var ytInitialData = {"contents":{"twoColumnWatchNextResults":{"results":{"results":{"contents":['
    b'{"videoPrimaryInfoRenderer":{"viewCount":{"videoViewCountRenderer":{"viewCount":{"simpleText":"1,234 views"}}}}},'
    b'{"videoSecondaryInfoRenderer":{"owner":{"videoOwnerRenderer":{"title":{"runs":[{"text":"-","navigationEndpoint":'
    b'{"browseEndpoint":{"browseId":"UCrehearsalrehearsalrehe","canonicalBaseUrl":"/@rehearsal"}}}]}}}}}]}}}}};</script>'
    b"</body></html>"
)


def media_format(itag: int, mime: str, **more: object) -> dict[str, object]:
    """Return a format as YouTube describes it, with a plain link."""
    return {
        "itag": itag,
        "url": f"https://rehearsal.googlevideo.com/videoplayback?itag={itag}",
        "mimeType": mime,
        "bitrate": 128_000,
        "contentLength": "1",
        "approxDurationMs": "1000",
        **more,
    }


SOUND: Final = {"audioQuality": "AUDIO_QUALITY_MEDIUM", "audioSampleRate": "48000", "audioChannels": 2}


PLAYER: Final = {
    "playabilityStatus": {"status": "OK"},
    "videoDetails": {
        "videoId": VIDEO_ID,
        "title": "-",
        "lengthSeconds": "1",
        "author": "-",
        "channelId": "UCrehearsalrehearsalrehe",
        "shortDescription": "-\n0:00 -\n",
        "viewCount": "1234",
        "thumbnail": {
            "thumbnails": [{"url": f"https://i.ytimg.com/vi/{VIDEO_ID}/hq720.jpg", "width": 1280, "height": 720}]
        },
    },
    "microformat": {
        "playerMicroformatRenderer": {
            "lengthSeconds": "1",
            "ownerProfileUrl": "http://www.youtube.com/@rehearsal",
            "publishDate": "2020-02-02T00:00:00-08:00",
            "uploadDate": "2020-02-02T00:00:00-08:00",
        }
    },
    "streamingData": {
        "adaptiveFormats": [
            media_format(251, 'audio/webm; codecs="opus"', **SOUND),
            media_format(140, 'audio/mp4; codecs="mp4a.40.2"', **SOUND),
            media_format(136, 'video/mp4; codecs="avc1.4d401f"', width=1280, height=720, fps=25),
        ]
    },
}
