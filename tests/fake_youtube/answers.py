"""The watch page and the player response, as far as yt-dlp's real YouTube extractor reads them.

What keeps the extraction quick and free of warnings (yt-dlp 2026.10.26): the page holds `STS` and `PLAYER_JS_URL`, so
no player script is fetched for a signature timestamp; its initial data has `contents`, so it is not fetched again; the
web client gets no formats, so no PO token is missed; and formats without `n` need no JavaScript.
"""

import json
import zlib
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlencode

from . import playerjs
from .kinds import (
    BEHAVIOURS,
    Behaviour,
    Delivery,
    Extraction,
    Kind,
    Offer,
    Refusal,
    Thumbnail,
    kind_of,
)
from .media import mime_of, seconds_of
from .odd_values import HOSTILE_TITLES, ODD_FIELDS

HUGE_BYTES: Final = 600_000_000
BIG_RESPONSE_BYTES: Final = 16_000_000
MEDIA_HOST: Final = "rr1---sn-fake.googlevideo.com"
CHANNEL: Final = "UCfakefakefakefakefakefa"
VISITOR: Final = "CgtmYWtlLXZpc2l0b3I%3D"
CLIENT_VERSION: Final = "2.20260708.00.00"
_ITAGS: Final = {"audio/webm": 251, "audio/mp4": 140, "audio/mpeg": 141, "video/mp4": 18}
_PICTURES: Final = (("hqdefault", 480, 360), ("sddefault", 640, 480), ("maxresdefault", 1280, 720))


def title_of(identifier: str) -> str:
    kind, number = kind_of(identifier)
    if BEHAVIOURS[kind].hostile_title:
        return HOSTILE_TITLES[number % len(HOSTILE_TITLES)]
    return f"Fake {kind} {number}"


def announced_seconds(behaviour: Behaviour) -> int:
    return seconds_of(behaviour.media) if behaviour.seconds is None else behaviour.seconds


def media_url(identifier: str, extraction: int, **more: str) -> str:
    """Return the address of one extraction's media: a fresh extraction gives a fresh `ei`."""
    query = {"expire": "4102444800", "ei": str(extraction), "id": identifier, "source": "youtube", **more}
    return f"https://{MEDIA_HOST}/videoplayback?{urlencode(query)}"


def _playability(refusal: Refusal | None, extraction: Extraction) -> dict[str, object]:
    if extraction is Extraction.CAPTCHA:
        return {
            "status": "UNPLAYABLE",
            "reason": "Video unavailable",
            "errorScreen": {"playerCaptchaViewModel": {"captchaRequirement": "required"}},
        }
    if refusal is None:
        return {"status": "OK", "playableInEmbed": True}
    message: dict[str, object] = {"reason": {"simpleText": refusal.reason}}
    if refusal.subreason is not None:
        message["subreason"] = {"simpleText": refusal.subreason}
    return {
        "status": refusal.status,
        "reason": refusal.reason,
        "errorScreen": {"playerErrorMessageRenderer": message},
    }


def _thumbnails(identifier: str, thumbnail: Thumbnail) -> list[dict[str, object]]:
    if thumbnail is Thumbnail.UNLISTED:
        return []
    copies = 167 if thumbnail is Thumbnail.MANY else 1
    return [
        {
            "url": f"https://i.ytimg.com/vi/{identifier}/{name}.jpg" + f"?copy={copy}" * bool(copy),
            "width": w,
            "height": h,
        }
        for copy in range(copies)
        for name, w, h in _PICTURES
    ]


def _video_format(identifier: str, extraction: int, seconds: int) -> dict[str, object]:
    return {
        "itag": 136,
        "url": media_url(identifier, extraction, itag="136"),
        "mimeType": 'video/mp4; codecs="avc1.4d401f"',
        "bitrate": 1_500_000,
        "width": 1280,
        "height": 720,
        "fps": 25,
        "quality": "hd720",
        "qualityLabel": "720p",
        "approxDurationMs": str(seconds * 1000),
        "contentLength": str(seconds * 187_500),
    }


def _sound_format(identifier: str, extraction: int, behaviour: Behaviour, size_bytes: int) -> dict[str, object]:
    mime, seconds = mime_of(behaviour.media), announced_seconds(behaviour)
    itag = _ITAGS[mime.partition(";")[0]]
    # The field is there only where there is something to say, as on YouTube.
    size = {} if behaviour.offer is Offer.UNANNOUNCED_SIZE else {"contentLength": str(size_bytes)}
    return {
        "itag": itag,
        "url": media_url(identifier, extraction, itag=str(itag), dur=str(seconds)),
        "mimeType": mime,
        "bitrate": 130_000,
        "quality": "tiny",
        "audioQuality": "AUDIO_QUALITY_MEDIUM",
        "audioSampleRate": "44100" if "mp4a" in mime else "48000",
        "audioChannels": 2,
        "approxDurationMs": str(seconds * 1000),
        **size,
    }


def _streams(identifier: str, extraction: int, behaviour: Behaviour, size_bytes: int) -> dict[str, object]:
    seconds = announced_seconds(behaviour)
    sound = _sound_format(identifier, extraction, behaviour, size_bytes)
    picture = _video_format(identifier, extraction, seconds)
    expires = {"expiresInSeconds": "21540"}
    match behaviour.offer:
        case Offer.VIDEO_ONLY:
            return {**expires, "adaptiveFormats": [picture]}
        case Offer.MUXED:
            shape = {"width": 640, "height": 360, "fps": 25, "quality": "medium", "qualityLabel": "360p"}
            return {**expires, "formats": [{**sound, **shape}]}
        case Offer.PROTECTED:
            protected = [{**each, "drmFamilies": ["WIDEVINE"]} for each in (sound, picture)]
            licence = {"drmFamily": "WIDEVINE", "url": "https://www.youtube.com/license"}
            return {**expires, "adaptiveFormats": protected, "licenseInfos": [licence]}
        case Offer.LIVE:
            playlist = f"https://manifest.googlevideo.com/api/manifest/hls_variant/id/{identifier}/index.m3u8"
            live = [{**each, "targetDurationSec": 5} for each in (sound, picture)]
            return {**expires, "adaptiveFormats": live, "hlsManifestUrl": playlist}
        case Offer.SCRAMBLED:
            bare = media_url(identifier, extraction, itag=str(sound["itag"]), n=playerjs.unturn(_secret(identifier)))
            cipher = urlencode({"s": playerjs.scramble(_secret(identifier)), "sp": "sig", "url": bare})
            del sound["url"]
            return {**expires, "adaptiveFormats": [{**sound, "signatureCipher": cipher}]}
        case Offer.AUDIO | Offer.UNANNOUNCED_SIZE:
            return {**expires, "adaptiveFormats": [sound, picture]}


def _secret(identifier: str) -> str:
    return f"solved-{identifier}-for-you"


def is_solved(identifier: str, signature: str, n: str) -> bool:
    """Say whether a media request carries what the player script makes of its challenges."""
    return signature == n == _secret(identifier)


def player_response(identifier: str, *, extraction: int, size_bytes: int, playable: bool = True) -> bytes:
    """Return the player API's JSON; without streams when it is part of the page (`playable` false)."""
    kind, number = kind_of(identifier)
    behaviour = BEHAVIOURS[kind]
    seconds, thumbnails = announced_seconds(behaviour), _thumbnails(identifier, behaviour.thumbnail)
    live = behaviour.offer is Offer.LIVE
    filler = "lorem ipsum " * (BIG_RESPONSE_BYTES // 12) if behaviour.big_response and playable else ""
    response: dict[str, object] = {
        "responseContext": {"visitorData": VISITOR},
        "playabilityStatus": _playability(behaviour.refusal, behaviour.extraction),
        "videoDetails": {
            "videoId": "otherVideo0" if behaviour.extraction is Extraction.OTHER_VIDEO else identifier,
            "title": title_of(identifier),
            "lengthSeconds": str(seconds),
            "channelId": CHANNEL,
            "shortDescription": f"Number {number} of kind {kind}. {filler}",
            "thumbnail": {"thumbnails": thumbnails},
            "viewCount": "1234",
            "author": author_of(identifier),
            "isPrivate": kind is Kind.PRIVATE,
            "isLiveContent": live,
            "isUpcoming": kind in {Kind.UPCOMING, Kind.PREMIERE},
            **({"isLive": True} if live else {}),
        },
        "microformat": {
            "playerMicroformatRenderer": {
                "lengthSeconds": str(seconds),
                "ownerProfileUrl": "http://www.youtube.com/@fake",
                "ownerChannelName": author_of(identifier),
                "externalChannelId": CHANNEL,
                "isFamilySafe": kind is not Kind.AGE,
                "availableCountries": ["AQ"] if kind is Kind.REGION else ["AQ", "DE", "US"],
                "category": "Music",
                "publishDate": "2020-02-02T00:00:00-08:00",
                "uploadDate": "2020-02-02T00:00:00-08:00",
            }
        },
    }
    odd = ODD_FIELDS[number % len(ODD_FIELDS)] if behaviour.odd_fields else {}
    response["videoDetails"] = {**response["videoDetails"], **odd.get("details", {})}  # type: ignore[dict-item]
    refused = behaviour.refusal is not None or behaviour.extraction is Extraction.CAPTCHA
    if playable and not refused:
        streams = response["streamingData"] = _streams(identifier, extraction, behaviour, size_bytes)
        if "format" in odd:
            streams["adaptiveFormats"][0].update(odd["format"])  # type: ignore[index]
    # Escapes keep lone surrogates, NUL and `</script>` of a hostile title legal in JSON and in the page.
    return json.dumps(response, separators=(",", ":")).replace("</", "<\\/").encode("ascii")


def author_of(identifier: str) -> str:
    kind, number = kind_of(identifier)
    return title_of(identifier) if BEHAVIOURS[kind].hostile_title else f"Fake Artist {number}"


def initial(identifier: str) -> dict[str, object]:
    """Return what stands around the player: here is where yt-dlp finds the uploader."""
    channel = {"browseId": CHANNEL, "canonicalBaseUrl": "/@fake"}
    owner = {
        "title": {"runs": [{"text": author_of(identifier), "navigationEndpoint": {"browseEndpoint": channel}}]},
        "navigationEndpoint": {"browseEndpoint": channel},
    }
    contents = [{"videoSecondaryInfoRenderer": {"owner": {"videoOwnerRenderer": owner}}}]
    return {"contents": {"twoColumnWatchNextResults": {"results": {"results": {"contents": contents}}}}}


def _configuration(client: str, number: int) -> str:
    return json.dumps(
        {
            "INNERTUBE_CONTEXT": {
                "client": {"clientName": client, "clientVersion": CLIENT_VERSION, "hl": "en", "gl": "US"}
            },
            "INNERTUBE_CONTEXT_CLIENT_NAME": number,
            "INNERTUBE_CLIENT_VERSION": CLIENT_VERSION,
            "VISITOR_DATA": VISITOR,
            "STS": playerjs.SIGNATURE_TIMESTAMP,
            "PLAYER_JS_URL": playerjs.PATH,
        }
    )


def embed_page() -> bytes:
    configuration = _configuration("WEB_EMBEDDED_PLAYER", 56)
    return f"<!doctype html><title>embed</title><script>ytcfg.set({configuration});</script>".encode("ascii")


def watch_page(identifier: str) -> bytes:
    player = player_response(identifier, extraction=0, size_bytes=0, playable=False).decode("ascii")
    around = json.dumps(initial(identifier)).replace("</", "<\\/")
    return (
        f"<!doctype html><html><head><title>{identifier}</title>"
        f"<script>ytcfg.set({_configuration('WEB', 1)});</script></head><body>"
        f"<script>var ytInitialPlayerResponse = {player};</script>"
        f"<script>var ytInitialData = {around};</script></body></html>"
    ).encode("ascii")


def live_playlist(identifier: str) -> bytes:
    stream = f"https://manifest.googlevideo.com/api/manifest/hls_playlist/id/{identifier}/itag/93/index.m3u8"
    return (
        "#EXTM3U\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=1200000,CODECS="mp4a.40.2,avc1.4D401E",RESOLUTION=640x360,FRAME-RATE=30\n'
        f"{stream}\n"
    ).encode("ascii")


def endless_json(size_bytes: int) -> Iterator[bytes]:
    """Yield a player response that is still about to begin: `size_bytes` of white space."""
    piece = b" " * 2**20
    for _ in range(size_bytes // len(piece)):
        yield piece


def bomb(size_bytes: int) -> bytes:
    """Return so many spaces as gzip, a thousandth of their size. Each block after the first is a copy of it."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
    return head + block * (size_bytes // 2**20) + packer.flush()


def announced_bytes(behaviour: Behaviour, body_bytes: int) -> int:
    return HUGE_BYTES if behaviour.delivery is Delivery.HUGE else body_bytes
