"""What each video does. The video id chooses: seven characters of kind, padded with `_`, then four digits.

`short__0007` is short video number 7; `song___0012` song number 12. An id outside the scheme (`dQw4w9WgXcQ`) is a
short video too, so that tests of link spellings may use any id. This is the one table of what each kind does.
"""

import dataclasses
import re
from enum import StrEnum, auto
from typing import Final

_ID: Final = re.compile(r"([A-Za-z0-9_]{7})([0-9]{4})", re.ASCII)
MOST_NUMBER: Final = 9999


class Media(StrEnum):
    """Bodies that the media server can send; made and kept by `media`."""

    SHORT = auto()
    CLIP = auto()
    SONG = auto()
    TEN = auto()
    SIXTY = auto()
    M4A_SHORT = auto()
    M4A_CLIP = auto()
    M4A_SONG = auto()
    INDEX_AT_END = auto()
    MP3 = auto()
    MUXED = auto()
    HALF = auto()
    HALF_M4A = auto()
    RANDOM = auto()
    EMPTY = auto()
    HTML = auto()


class Delivery(StrEnum):
    """How the media server treats a request."""

    WHOLE = auto()
    SLOW = auto()
    STALLED = auto()
    CUT = auto()
    CUT_LOOP = auto()
    CUT_ONCE = auto()
    CUT_WHOLE = auto()
    FORBIDDEN = auto()
    FORBIDDEN_ONCE = auto()
    TOO_MANY = auto()
    BROKEN = auto()
    ENDLESS = auto()
    HUGE = auto()
    TO_METADATA = auto()
    TO_LOOPBACK = auto()
    TO_ITSELF = auto()
    TO_FILE = auto()
    TO_CHAIN = auto()
    SOLVED_ONLY = auto()


class Extraction(StrEnum):
    """How the page and the player API behave, when not by answering at once."""

    NORMAL = auto()
    DELAYED = auto()
    HANGS = auto()
    TOO_MANY = auto()
    BROKEN = auto()
    CAPTCHA = auto()
    OTHER_VIDEO = auto()
    GARBLED = auto()
    HUGE = auto()
    BOMB = auto()


class Thumbnail(StrEnum):
    NORMAL = auto()
    MANY = auto()
    UNLISTED = auto()
    MISSING = auto()
    JUNK = auto()
    HANGS = auto()


class Offer(StrEnum):
    """Which formats the player response lists."""

    AUDIO = auto()
    VIDEO_ONLY = auto()
    MUXED = auto()
    PROTECTED = auto()
    LIVE = auto()
    UNANNOUNCED_SIZE = auto()
    SCRAMBLED = auto()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A `playabilityStatus` that is not OK, in YouTube's own words."""

    status: str
    reason: str
    subreason: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    says: str
    expected: str  # "done", or the error code of the service's failed job
    media: Media = Media.SHORT
    seconds: int | None = None  # announced; the media's own when None
    offer: Offer = Offer.AUDIO
    delivery: Delivery = Delivery.WHOLE
    extraction: Extraction = Extraction.NORMAL
    thumbnail: Thumbnail = Thumbnail.NORMAL
    refusal: Refusal | None = None
    hostile_title: bool = False
    big_response: bool = False
    odd_fields: bool = False


class Kind(StrEnum):
    """The value is the id's prefix."""

    SHORT = "short"
    CLIP = "clip"
    SONG = "song"
    M4A = "m4a"
    M4A_CLIP = "m4aclip"
    M4A_SONG = "m4asong"
    INDEX_AT_END = "moovend"
    MP3 = "mp3"
    MUXED = "muxed"
    CHALLENGE = "jschall"
    HOSTILE_TITLE = "hostile"
    BIG_RESPONSE = "bigjson"
    MANY_THUMBNAILS = "tmbmany"
    NO_THUMBNAIL = "tmbnone"
    THUMBNAIL_MISSING = "tmb404"
    THUMBNAIL_JUNK = "tmbjunk"
    THUMBNAIL_HANGS = "tmbhang"
    SLOW = "slow"
    DELAYED = "delayed"
    CUT_ONCE = "cutonce"
    CUT_WHOLE = "cutwhol"
    FORBIDDEN_ONCE = "once403"
    STALLED = "stalled"
    CUT = "cut"
    CUT_LOOP = "cutloop"
    HALF = "half"
    HALF_M4A = "halfm4a"
    OVERSTATED = "over"
    UNDERSTATED = "under"
    RANDOM = "random"
    EMPTY = "empty"
    HTML = "html"
    ENDLESS = "endless"
    HUGE = "huge"
    HUGE_UNANNOUNCED = "hugeraw"
    LONG = "long"
    FORBIDDEN = "deny403"
    MEDIA_429 = "med429"
    MEDIA_500 = "med500"
    TO_METADATA = "redirip"
    TO_LOOPBACK = "redirlo"
    TO_ITSELF = "redirlp"
    TO_FILE = "redirfl"
    TO_CHAIN = "redir50"
    HANGS = "hang"
    PAGE_429 = "page429"
    PAGE_500 = "page500"
    CAPTCHA = "captcha"
    OTHER_VIDEO = "othrvid"
    GARBLED = "garbled"
    HUGE_ANSWER = "hugejsn"
    BOMB = "gzbomb"
    ODD_FIELDS = "oddjson"
    BOT_CHECK = "bot"
    RATE_LIMITED = "limited"
    PRIVATE = "private"
    REMOVED = "removed"
    COPYRIGHT = "claimed"
    UNAVAILABLE = "unavail"
    TERMINATED = "closed"
    AGE = "age"
    MEMBERS = "members"
    REGION = "region"
    LIVE = "live"
    UPCOMING = "soon"
    PREMIERE = "premier"
    DRM = "drm"
    NO_AUDIO = "noaudio"


def _refused(says: str, expected: str, status: str, reason: str, subreason: str | None = None) -> Behaviour:
    return Behaviour(says=says, expected=expected, refusal=Refusal(status=status, reason=reason, subreason=subreason))


def _delivered(says: str, expected: str, delivery: Delivery, media: Media = Media.SHORT) -> Behaviour:
    return Behaviour(says=says, expected=expected, delivery=delivery, media=media)


def _extracted(says: str, expected: str, extraction: Extraction) -> Behaviour:
    return Behaviour(says=says, expected=expected, extraction=extraction)


def _pictured(says: str, thumbnail: Thumbnail) -> Behaviour:
    return Behaviour(says=says, expected="done", thumbnail=thumbnail)


BEHAVIOURS: Final[dict[Kind, Behaviour]] = {
    # Whole and well.
    Kind.SHORT: Behaviour(says="4 s, WebM/Opus", expected="done"),
    Kind.CLIP: Behaviour(says="30 s, WebM/Opus", expected="done", media=Media.CLIP),
    Kind.SONG: Behaviour(says="240 s, WebM/Opus", expected="done", media=Media.SONG),
    Kind.M4A: Behaviour(says="4 s, fragmented M4A/AAC", expected="done", media=Media.M4A_SHORT),
    Kind.M4A_CLIP: Behaviour(says="30 s, fragmented M4A/AAC", expected="done", media=Media.M4A_CLIP),
    Kind.M4A_SONG: Behaviour(says="240 s, fragmented M4A/AAC", expected="done", media=Media.M4A_SONG),
    Kind.INDEX_AT_END: Behaviour(says="4 s M4A with moov at the end", expected="done", media=Media.INDEX_AT_END),
    Kind.MP3: Behaviour(says="4 s, MP3 192k CBR as source", expected="done", media=Media.MP3),
    Kind.MUXED: Behaviour(
        says="only format 18: MP4 with picture and AAC", expected="done", media=Media.MUXED, offer=Offer.MUXED
    ),
    Kind.CHALLENGE: Behaviour(
        says="signatureCipher and n: 403 unless the player script was solved",
        expected="done",
        offer=Offer.SCRAMBLED,
        delivery=Delivery.SOLVED_ONLY,
    ),
    Kind.HOSTILE_TITLE: Behaviour(says="a title of HOSTILE_TITLES, by number", expected="done", hostile_title=True),
    Kind.BIG_RESPONSE: Behaviour(says="16 MB player response", expected="done", big_response=True),
    Kind.MANY_THUMBNAILS: _pictured("500 thumbnails listed", Thumbnail.MANY),
    Kind.NO_THUMBNAIL: _pictured("no thumbnail listed, all 404", Thumbnail.UNLISTED),
    Kind.THUMBNAIL_MISSING: _pictured("thumbnails listed, all 404", Thumbnail.MISSING),
    Kind.THUMBNAIL_JUNK: _pictured("thumbnails are random bytes", Thumbnail.JUNK),
    Kind.THUMBNAIL_HANGS: _pictured("thumbnails never answer", Thumbnail.HANGS),
    Kind.SLOW: _delivered("30 s clip, dripped at --slow-rate", "done", Delivery.SLOW, Media.CLIP),
    Kind.DELAYED: _extracted("player API answers after --delay", "done", Extraction.DELAYED),
    # Cured by a fresh extraction.
    Kind.CUT_ONCE: _delivered("first extraction: cut at half, then 403", "done", Delivery.CUT_ONCE, Media.CLIP),
    Kind.CUT_WHOLE: _delivered(
        "first extraction: cut at half; a rest that is asked for is answered with the whole", "done", Delivery.CUT_WHOLE
    ),
    Kind.FORBIDDEN_ONCE: _delivered("first extraction: media 403", "done", Delivery.FORBIDDEN_ONCE),
    # Bad media.
    Kind.STALLED: _delivered("half, then silence", "upstream_timeout", Delivery.STALLED, Media.CLIP),
    Kind.CUT: _delivered("cut at half, then no answer", "upstream_error", Delivery.CUT, Media.CLIP),
    Kind.CUT_LOOP: _delivered(
        "cut at half, then 206 without a byte: yt-dlp asks for ever", "upstream_error", Delivery.CUT_LOOP, Media.CLIP
    ),
    Kind.HALF: Behaviour(
        says="WebM cut in half, lengths agree", expected="output_truncated", media=Media.HALF, seconds=30
    ),
    Kind.HALF_M4A: Behaviour(
        says="M4A cut in half, lengths agree", expected="output_truncated", media=Media.HALF_M4A, seconds=30
    ),
    Kind.OVERSTATED: Behaviour(
        says="announced 30 s, media 10 s", expected="output_truncated", media=Media.TEN, seconds=30
    ),
    Kind.UNDERSTATED: Behaviour(
        says="announced 10 s, media 60 s", expected="output_truncated", media=Media.SIXTY, seconds=10
    ),
    Kind.RANDOM: Behaviour(says="random bytes", expected="media_invalid", media=Media.RANDOM, seconds=4),
    Kind.EMPTY: Behaviour(says="0 bytes", expected="media_invalid", media=Media.EMPTY, seconds=4),
    Kind.HTML: Behaviour(says="an HTML page", expected="media_invalid", media=Media.HTML, seconds=4),
    Kind.ENDLESS: Behaviour(
        says="real WebM without end or length (to 4 GiB)",
        expected="too_large",
        delivery=Delivery.ENDLESS,
        offer=Offer.UNANNOUNCED_SIZE,
        seconds=30,
    ),
    Kind.HUGE: Behaviour(says="announced and sent: 600 MB", expected="too_large", delivery=Delivery.HUGE, seconds=9000),
    Kind.HUGE_UNANNOUNCED: Behaviour(
        says="600 MB by Content-Length only",
        expected="too_large",
        delivery=Delivery.HUGE,
        offer=Offer.UNANNOUNCED_SIZE,
        seconds=30,
    ),
    Kind.LONG: Behaviour(says="announced 3 h and 1 s", expected="too_long", seconds=10_801),
    # A media server that refuses.
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
    # An extraction that fails.
    Kind.HANGS: _extracted("page answers, player API never does", "upstream_timeout", Extraction.HANGS),
    Kind.PAGE_429: _extracted("page and player API answer 429", "rate_limited_upstream", Extraction.TOO_MANY),
    Kind.PAGE_500: _extracted("page and player API answer 500", "upstream_error", Extraction.BROKEN),
    Kind.CAPTCHA: _extracted("a captcha before playback", "bot_check", Extraction.CAPTCHA),
    Kind.OTHER_VIDEO: _extracted("responses are of another video", "bot_check", Extraction.OTHER_VIDEO),
    Kind.GARBLED: _extracted("player API answers no JSON", "upstream_error", Extraction.GARBLED),
    Kind.HUGE_ANSWER: _extracted("player API answers 200 MB", "upstream_error", Extraction.HUGE),
    Kind.BOMB: _extracted("the page unpacks to 1 GB", "upstream_error", Extraction.BOMB),
    Kind.ODD_FIELDS: Behaviour(says="fields of ODD_FIELDS, by number", expected="done", odd_fields=True),
    # What YouTube says of a video.
    Kind.BOT_CHECK: _refused(
        "bot check",
        "bot_check",
        "LOGIN_REQUIRED",
        "Sign in to confirm you\u2019re not a bot",
        "This helps protect our community. Learn more",
    ),
    Kind.RATE_LIMITED: _refused(
        "session rate-limited",
        "rate_limited_upstream",
        "UNPLAYABLE",
        "Video unavailable",
        "This content isn't available, try again later.",
    ),
    Kind.PRIVATE: _refused(
        "private",
        "private",
        "LOGIN_REQUIRED",
        "Private video",
        "Sign in if you've been granted access to this video",
    ),
    Kind.REMOVED: _refused(
        "removed by its uploader",
        "removed",
        "ERROR",
        "Video unavailable",
        "This video has been removed by the uploader",
    ),
    Kind.COPYRIGHT: _refused(
        "removed by a copyright claim",
        "removed",
        "ERROR",
        "Video unavailable",
        "This video is no longer available due to a copyright claim by Example Music",
    ),
    Kind.UNAVAILABLE: _refused(
        "never was", "video_unavailable", "ERROR", "Video unavailable", "This video is unavailable"
    ),
    Kind.TERMINATED: _refused(
        "account terminated",
        "removed",
        "ERROR",
        "Video unavailable",
        "This video is no longer available because the YouTube account associated with this video has been terminated.",
    ),
    Kind.AGE: _refused(
        "age restricted",
        "age_restricted",
        "LOGIN_REQUIRED",
        "Sign in to confirm your age",
        "This video may be inappropriate for some users.",
    ),
    Kind.MEMBERS: _refused(
        "members only",
        "members_only",
        "UNPLAYABLE",
        "Join this channel to get access to members-only content like this video, and other exclusive perks.",
    ),
    Kind.REGION: _refused(
        "blocked in this country",
        "region_blocked",
        "UNPLAYABLE",
        "Video unavailable",
        "The uploader has not made this video available in your country",
    ),
    Kind.LIVE: Behaviour(says="live now", expected="live", offer=Offer.LIVE, seconds=0),
    Kind.UPCOMING: _refused(
        "a live event to come", "upcoming", "LIVE_STREAM_OFFLINE", "This live event will begin in 2 hours."
    ),
    Kind.PREMIERE: _refused("a premiere to come", "upcoming", "LIVE_STREAM_OFFLINE", "Premieres in 2 hours"),
    Kind.DRM: Behaviour(says="every format protected", expected="drm", offer=Offer.PROTECTED),
    Kind.NO_AUDIO: Behaviour(says="only formats without sound", expected="no_audio", offer=Offer.VIDEO_ONLY),
}


def video_id(kind: Kind | str, number: int = 0) -> str:
    """Return the id of the number-th video of a kind. Raises ValueError outside 0 to 9999."""
    if not 0 <= number <= MOST_NUMBER:
        raise ValueError(f"number must be 0 to {MOST_NUMBER}")
    return f"{Kind(kind).value:_<7}{number:04d}"


def kind_of(identifier: str) -> tuple[Kind, int]:
    """Return what an id asks for; an id outside the scheme is a short video."""
    found = _ID.fullmatch(identifier)
    if found is None:
        return Kind.SHORT, 0
    try:
        return Kind(found[1].rstrip("_")), int(found[2])
    except ValueError:
        return Kind.SHORT, 0


def watch_url(identifier: str) -> str:
    return f"https://www.youtube.com/watch?v={identifier}"
