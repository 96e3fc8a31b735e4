"""The player API's answer, as far as yt-dlp's real YouTube extractor reads it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .asked import Asked
from .behaviour import Extraction, Media, Offer, Refusal, Thumbnail
from .formats import SKIPPABLE_AD_SECONDS, FormatWriter, ad_seconds
from .heavy import captions
from .kinds import Kind, kind_of
from .odd_values import HOSTILE_TITLES, ODD_FIELDS
from .table import BEHAVIOURS

BIG_RESPONSE_BYTES: Final = 16_000_000
CHANNEL: Final = "UCfakefakefakefakefakefa"
_PICTURES: Final = (("hqdefault", 480, 360), ("sddefault", 640, 480), ("maxresdefault", 1280, 720))
_STORYBOARDS: Final = (
    "https://i.ytimg.com/sb/{identifier}/storyboard3_L$L/$N.jpg?sqp=fake"
    "|48#27#100#10#10#0#default#rs$AOn4fake1|80#45#20#5#5#1000#M$M#rs$AOn4fake2"
)


def title_of(identifier: str) -> str:
    kind, number = kind_of(identifier)
    if BEHAVIOURS[kind].hostile_title:
        return HOSTILE_TITLES[number % len(HOSTILE_TITLES)]
    return f"Fake {kind} {number}"


def author_of(identifier: str) -> str:
    kind, number = kind_of(identifier)
    return title_of(identifier) if BEHAVIOURS[kind].hostile_title else f"Fake Artist {number}"


def _playability(refusal: Refusal | None, extraction: Extraction) -> dict[str, Any]:
    if extraction is Extraction.CAPTCHA:
        return {
            "status": "UNPLAYABLE",
            "reason": "Video unavailable",
            "errorScreen": {"playerCaptchaViewModel": {"captchaRequirement": "required"}},
        }
    if refusal is None:
        return {"status": "OK", "playableInEmbed": True}
    if refusal.trailer is not None:
        screen: dict[str, Any] = {"playerLegacyDesktopYpcTrailerRenderer": {"trailerVideoId": refusal.trailer}}
    elif refusal.interstitial:
        words = {"title": {"content": refusal.reason}, "description": {"content": refusal.subreason}}
        # The reason stands on the interstitial alone.
        screen = {"playerInterstitialRenderer": {"content": {"interstitialViewModel": words}}}
        return {"status": refusal.status, "errorScreen": screen}
    else:
        message: dict[str, Any] = {"reason": {"simpleText": refusal.reason}}
        if refusal.subreason is not None:
            message["subreason"] = {"simpleText": refusal.subreason}
        screen = {"playerErrorMessageRenderer": message}
    return {"status": refusal.status, "reason": refusal.reason, "errorScreen": screen}


def _thumbnails(identifier: str, thumbnail: Thumbnail) -> list[dict[str, Any]]:
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


def _details(asked: Asked, *, filler: str) -> dict[str, Any]:
    live = asked.behaviour.offer is Offer.LIVE
    stream = asked.behaviour.stream
    details: dict[str, Any] = {
        "videoId": "otherVideo0" if asked.behaviour.extraction is Extraction.OTHER_VIDEO else asked.identifier,
        "title": title_of(asked.identifier),
        "lengthSeconds": str(asked.seconds),
        "channelId": CHANNEL,
        "shortDescription": f"Number {asked.number} of kind {asked.kind}. {filler}",
        "thumbnail": {"thumbnails": _thumbnails(asked.identifier, asked.behaviour.thumbnail)},
        "viewCount": "1234",
        "author": author_of(asked.identifier),
        "isPrivate": asked.kind is Kind.PRIVATE,
        "isLiveContent": live or bool(stream),
        "isUpcoming": asked.kind in {Kind.UPCOMING, Kind.PREMIERE},
    }
    if live:
        details["isLive"] = True
    if stream == "post":
        details["isPostLiveDvr"] = True
    return details


def _microformat(asked: Asked) -> dict[str, Any]:
    return {
        "lengthSeconds": str(asked.seconds),
        "ownerProfileUrl": "http://www.youtube.com/@fake",
        "ownerChannelName": author_of(asked.identifier),
        "externalChannelId": CHANNEL,
        "isFamilySafe": asked.kind is not Kind.AGE,
        "availableCountries": ["AQ"] if asked.kind is Kind.REGION else ["AQ", "DE", "US"],
        "category": "Music",
        "publishDate": "2020-02-02T00:00:00-08:00",
        "uploadDate": "2020-02-02T00:00:00-08:00",
    }


def _advertisements(asked: Asked) -> list[dict[str, Any]]:
    seconds = ad_seconds(asked)
    if not seconds:
        return []
    ad: dict[str, Any] = {"playerVars": f"length_seconds={seconds}&autoplay=1"}
    if asked.behaviour.ad == "skippable":
        ad = {"playerVars": f"length_seconds={SKIPPABLE_AD_SECONDS}", "skipOffsetMilliseconds": seconds * 1000}
    placement = {
        "config": {"adPlacementConfig": {"kind": "AD_PLACEMENT_KIND_START"}},
        "renderer": {"instreamVideoAdRenderer": ad},
    }
    return [{"adPlacementRenderer": placement}]


def player_response(
    asked: Asked, *, sizes: Mapping[Media, int], now: float, visitor: str, with_streams: bool = True
) -> bytes:
    """Return the player API's JSON; `with_streams` is false for the copy in the page of a light answer."""
    behaviour = asked.behaviour
    filler = "lorem ipsum " * (BIG_RESPONSE_BYTES // 12) if behaviour.big_response and with_streams else ""
    response: dict[str, Any] = {
        "responseContext": {"visitorData": visitor},
        "playabilityStatus": _playability(asked.refusal, behaviour.extraction),
        "videoDetails": _details(asked, filler=filler),
        "microformat": {"playerMicroformatRenderer": _microformat(asked)},
    }
    odd = ODD_FIELDS[asked.number % len(ODD_FIELDS)] if behaviour.odd_fields else {}
    response["videoDetails"] |= odd.get("details", {})
    if asked.has_storyboards:
        spec = _STORYBOARDS.replace("{identifier}", asked.identifier)
        response["storyboards"] = {"playerStoryboardSpecRenderer": {"spec": spec}}
    if asked.is_heavy:
        response["captions"] = captions()
    refused = asked.refusal is not None or behaviour.extraction is Extraction.CAPTCHA
    if with_streams and not refused:
        streams = FormatWriter(asked, sizes, now).streaming_data()
        if "format" in odd:
            streams["adaptiveFormats"][0].update(odd["format"])
        response["streamingData"] = streams
        response["adPlacements"] = _advertisements(asked)
    return as_json(response)


def as_json(content: object) -> bytes:
    """Escape what a hostile title may hold: lone surrogates, NUL and `</script>` stay legal in JSON and in the page."""
    return json.dumps(content, separators=(",", ":")).replace("</", "<\\/").encode("ascii")


def endless_json(size_bytes: int) -> Iterator[bytes]:
    """Yield a player response that is still about to begin: `size_bytes` of white space."""
    piece = b" " * 2**20
    for _ in range(size_bytes // len(piece)):
        yield piece
