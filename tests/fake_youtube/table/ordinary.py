"""Whole videos, broken media, a media server or an extraction that fails in a plain way."""

from typing import Final

from tests.fake_youtube.behaviour import EVERY_CLIENT, Behaviour, Delivery, Extraction, Links, Media, Offer, Thumbnail
from tests.fake_youtube.kinds import Kind


def _delivered(summary: str, expected: str, delivery: Delivery, media: Media = Media.SHORT) -> Behaviour:
    return Behaviour(summary=summary, expected=expected, delivery=delivery, media=media)


def _extracted(summary: str, expected: str, extraction: Extraction) -> Behaviour:
    return Behaviour(summary=summary, expected=expected, extraction=extraction)


def _pictured(summary: str, thumbnail: Thumbnail) -> Behaviour:
    return Behaviour(summary=summary, expected="done", thumbnail=thumbnail)


_WHOLE: Final[dict[Kind, Behaviour]] = {
    Kind.SHORT: Behaviour(summary="4 s, WebM/Opus", expected="done"),
    Kind.CLIP: Behaviour(summary="30 s, WebM/Opus", expected="done", media=Media.CLIP),
    Kind.SONG: Behaviour(summary="240 s, WebM/Opus", expected="done", media=Media.SONG),
    Kind.MIX: Behaviour(summary="20 min, WebM/Opus", expected="done", media=Media.MIX),
    Kind.HOUR: Behaviour(summary="60 min, WebM/Opus", expected="done", media=Media.HOUR),
    Kind.M4A: Behaviour(summary="4 s, fragmented M4A/AAC", expected="done", media=Media.M4A_SHORT),
    Kind.M4A_CLIP: Behaviour(summary="30 s, fragmented M4A/AAC", expected="done", media=Media.M4A_CLIP),
    Kind.M4A_SONG: Behaviour(summary="240 s, fragmented M4A/AAC", expected="done", media=Media.M4A_SONG),
    Kind.INDEX_AT_END: Behaviour(summary="4 s, M4A with moov at the end", expected="done", media=Media.INDEX_AT_END),
    Kind.MP3: Behaviour(summary="4 s, MP3 192k CBR as source", expected="done", media=Media.MP3),
    Kind.MUXED: Behaviour(
        summary="only format 18: MP4 with picture and AAC", expected="done", media=Media.MUXED, offer=Offer.MUXED
    ),
    Kind.CHALLENGE: Behaviour(
        summary="links scrambled for every client: 403 unless the player script was solved",
        expected="done",
        links=dict.fromkeys(EVERY_CLIENT, Links.SCRAMBLED),
    ),
    Kind.HOSTILE_TITLE: Behaviour(summary="a title of HOSTILE_TITLES, by number", expected="done", hostile_title=True),
    Kind.BIG_RESPONSE: Behaviour(summary="player response of 16 MB", expected="done", big_response=True),
    Kind.MANY_THUMBNAILS: _pictured("500 thumbnails listed", Thumbnail.MANY),
    Kind.NO_THUMBNAIL: _pictured("no thumbnail listed, every one 404", Thumbnail.UNLISTED),
    Kind.THUMBNAIL_MISSING: _pictured("thumbnails listed, every one 404", Thumbnail.MISSING),
    Kind.THUMBNAIL_JUNK: _pictured("thumbnails are random bytes", Thumbnail.JUNK),
    Kind.THUMBNAIL_HANGS: _pictured("thumbnails never answer", Thumbnail.HANGS),
    Kind.SLOW: _delivered("30 s, dripped at --slow-rate", "done", Delivery.SLOW, Media.CLIP),
    Kind.DELAYED: _extracted("player API answers after --delay", "done", Extraction.DELAYED),
    Kind.CUT_ONCE: _delivered("first extraction: cut at half, then 403", "done", Delivery.CUT_ONCE, Media.CLIP),
    Kind.CUT_WHOLE: _delivered(
        "first extraction: cut at half; a request for the rest gets the whole body", "done", Delivery.CUT_WHOLE
    ),
    Kind.FORBIDDEN_ONCE: _delivered("first extraction: media 403", "done", Delivery.FORBIDDEN_ONCE),
    Kind.ODD_FIELDS: Behaviour(summary="fields of ODD_FIELDS, by number", expected="done", odd_fields=True),
}

_BROKEN_MEDIA: Final[dict[Kind, Behaviour]] = {
    Kind.STALLED: _delivered("half, then silence", "upstream_timeout", Delivery.STALLED, Media.CLIP),
    Kind.CUT: _delivered("cut at half, then no answer", "upstream_error", Delivery.CUT, Media.CLIP),
    Kind.CUT_LOOP: _delivered(
        "cut at half, then 206 without a byte: yt-dlp asks for ever", "upstream_error", Delivery.CUT_LOOP, Media.CLIP
    ),
    Kind.HALF: Behaviour(
        summary="WebM cut in half, its announced size is that of the half",
        expected="output_truncated",
        media=Media.HALF,
        seconds=30,
    ),
    Kind.HALF_M4A: Behaviour(
        summary="M4A cut in half, its announced size is that of the half",
        expected="output_truncated",
        media=Media.HALF_M4A,
        seconds=30,
    ),
    Kind.OVERSTATED: Behaviour(
        summary="video and track announced with 30 s, media of 10 s",
        expected="output_truncated",
        media=Media.TEN,
        seconds=30,
    ),
    Kind.UNDERSTATED: Behaviour(
        summary="announced 10 s, media of 60 s", expected="output_truncated", media=Media.SIXTY, seconds=10
    ),
    Kind.RANDOM: Behaviour(summary="random bytes", expected="media_invalid", media=Media.RANDOM, seconds=4),
    Kind.EMPTY: Behaviour(summary="0 bytes", expected="media_invalid", media=Media.EMPTY, seconds=4),
    Kind.HTML: Behaviour(summary="an HTML page", expected="media_invalid", media=Media.HTML, seconds=4),
    Kind.ENDLESS: Behaviour(
        summary="real WebM without end or length (to 4 GiB)",
        expected="too_large",
        delivery=Delivery.ENDLESS,
        offer=Offer.UNANNOUNCED_SIZE,
        seconds=30,
    ),
    Kind.HUGE: Behaviour(
        summary="announced and sent: 600 MB", expected="too_large", delivery=Delivery.HUGE, seconds=9000
    ),
    Kind.HUGE_UNANNOUNCED: Behaviour(
        summary="600 MB by Content-Length only",
        expected="too_large",
        delivery=Delivery.HUGE,
        offer=Offer.UNANNOUNCED_SIZE,
        seconds=30,
    ),
    Kind.LONG: Behaviour(summary="announced 3 h and 1 s", expected="too_long", seconds=10_801),
    Kind.DRM: Behaviour(summary="every format protected", expected="drm", offer=Offer.PROTECTED),
    Kind.NO_AUDIO: Behaviour(summary="only formats without sound", expected="no_audio", offer=Offer.VIDEO_ONLY),
    Kind.LIVE: Behaviour(summary="live now", expected="live", offer=Offer.LIVE, seconds=0),
}

_REFUSING_SERVERS: Final[dict[Kind, Behaviour]] = {
    Kind.FORBIDDEN: _delivered("media 403, always", "upstream_error", Delivery.FORBIDDEN),
    Kind.MEDIA_429: _delivered("media 429, always", "rate_limited_upstream", Delivery.TOO_MANY),
    Kind.MEDIA_500: _delivered("media 500, always", "upstream_error", Delivery.BROKEN),
    Kind.TO_METADATA: _delivered("media redirects to 169.254.169.254", "upstream_error", Delivery.TO_METADATA),
    Kind.TO_LOOPBACK: _delivered(
        "media redirects to 127.0.0.1 (control /trap)", "upstream_error", Delivery.TO_LOOPBACK
    ),
    Kind.TO_ITSELF: _delivered("media redirects to itself", "upstream_error", Delivery.TO_ITSELF),
    Kind.TO_FILE: _delivered("media redirects to file:///etc/passwd", "upstream_error", Delivery.TO_FILE),
    Kind.TO_CHAIN: _delivered("media redirects 50 times, then comes", "upstream_error", Delivery.TO_CHAIN),
}

_FAILING_EXTRACTIONS: Final[dict[Kind, Behaviour]] = {
    Kind.HANGS: _extracted("page answers, player API never does", "upstream_timeout", Extraction.HANGS),
    Kind.PAGE_429: _extracted("page and player API answer 429", "rate_limited_upstream", Extraction.TOO_MANY),
    Kind.PAGE_500: _extracted("page and player API answer 500", "upstream_error", Extraction.BROKEN),
    Kind.CAPTCHA: _extracted("a captcha before playback", "bot_check", Extraction.CAPTCHA),
    Kind.OTHER_VIDEO: _extracted("responses are of another video", "bot_check", Extraction.OTHER_VIDEO),
    Kind.GARBLED: _extracted("player API answers HTML, not JSON", "extractor_broken", Extraction.GARBLED),
    Kind.HUGE_ANSWER: _extracted("player API answers 200 MB", "upstream_error", Extraction.HUGE),
    Kind.BOMB: _extracted("the page unpacks to 1 GB", "upstream_error", Extraction.BOMB),
}

ORDINARY: Final = {**_WHOLE, **_BROKEN_MEDIA, **_REFUSING_SERVERS, **_FAILING_EXTRACTIONS}
