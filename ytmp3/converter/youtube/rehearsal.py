"""A first extraction against canned responses."""

import io
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import json
from yt_dlp.networking import Response

from ytmp3.converter.youtube.downloader import _Downloader


class _Rehearsal(_Downloader):
    """Answers every request from memory, so that an extraction can be played through before the fork."""

    def to_stderr(self, *_: Any, **__: Any) -> None:
        """Say nothing: what it complains of is the poverty of the answers below."""

    def urlopen(self, request: Any) -> Response:
        """Answer the player as for an ordinary video, and everything else with its page."""
        url = request if isinstance(request, str) else request.url
        body = _REHEARSAL_PLAYER if "/player" in urlsplit(url).path else _REHEARSAL_PAGE
        return Response(io.BytesIO(body), url, {"Content-Type": "text/html; charset=utf-8"})


# As much as YouTube says of an ordinary video: each field leaves its regular expressions and tables behind.
_REHEARSAL_PAGE: Final = (
    b'<html><body><script>ytcfg.set({"STS":20000,"PLAYER_JS_URL":"/s/player/00000000/player_ias.vflset/en_US/base.js",'
    b'"INNERTUBE_CONTEXT":{"client":{"clientName":"WEB","clientVersion":"2.0"}}});</script>'
    b"<script>var ytInitialPlayerResponse = {};</script>"
    b'<script>var ytInitialData = {"contents":{"twoColumnWatchNextResults":{"results":{"results":{"contents":['
    b'{"videoPrimaryInfoRenderer":{"viewCount":{"videoViewCountRenderer":{"viewCount":{"simpleText":"1,234 views"}}}}},'
    b'{"videoSecondaryInfoRenderer":{"owner":{"videoOwnerRenderer":{"title":{"runs":[{"text":"-","navigationEndpoint":'
    b'{"browseEndpoint":{"browseId":"UCrehearsalrehearsalrehe","canonicalBaseUrl":"/@rehearsal"}}}]}}}}}]}}}}};</script>'
    b"</body></html>"
)


def _rehearsal_format(itag: int, mime: str, **more: object) -> dict[str, object]:
    return {
        "itag": itag,
        "url": f"https://rehearsal.googlevideo.com/videoplayback?itag={itag}",
        "mimeType": mime,
        "bitrate": 128_000,
        "contentLength": "1",
        "approxDurationMs": "1000",
        **more,
    }


_SOUND: Final = {"audioQuality": "AUDIO_QUALITY_MEDIUM", "audioSampleRate": "48000", "audioChannels": 2}


_REHEARSAL_PLAYER: Final = json.encode(
    {
        "playabilityStatus": {"status": "OK"},
        "videoDetails": {
            "videoId": "rehearsal00",
            "title": "-",
            "lengthSeconds": "1",
            "author": "-",
            "channelId": "UCrehearsalrehearsalrehe",
            "shortDescription": "-\n0:00 -\n",
            "viewCount": "1234",
            "thumbnail": {
                "thumbnails": [{"url": "https://i.ytimg.com/vi/rehearsal00/hq720.jpg", "width": 1280, "height": 720}]
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
                _rehearsal_format(251, 'audio/webm; codecs="opus"', **_SOUND),
                _rehearsal_format(140, 'audio/mp4; codecs="mp4a.40.2"', **_SOUND),
                _rehearsal_format(136, 'video/mp4; codecs="avc1.4d401f"', width=1280, height=720, fps=25),
            ]
        },
    }
)
