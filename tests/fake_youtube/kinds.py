"""The names of the kinds of video, and the ids that ask for them.

The video id chooses the behaviour: seven characters of kind, padded with `_`, then four digits. `short__0007` is short
video number 7; `song___0012` is song number 12. An id outside this scheme (`dQw4w9WgXcQ`) is a short video too, so that
tests of link spellings may use any id. `table` says what each kind does.
"""

import re
from enum import StrEnum
from typing import Final

_ID: Final = re.compile(r"([A-Za-z0-9_]{7})([0-9]{4})", re.ASCII)
MAX_NUMBER: Final = 9999


class Kind(StrEnum):
    """The value is the id's prefix."""

    SHORT = "short"
    CLIP = "clip"
    SONG = "song"
    MIX = "mix"
    HOUR = "hour"
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
    # Refusals in words, beyond the ordinary ones above.
    NOT_ON_APP = "noapp"
    OUT_OF_DATE = "oldapp"
    NOT_ON_DEVICE = "nodevic"
    RELOAD = "reload"
    TRY_LATER = "later"
    WENT_WRONG = "wrong"
    PROCESSING = "process"
    OFFLINE = "offline"
    RESTRICTED_MODE = "restric"
    ADMINISTRATOR = "admin"
    CONTENT_WARNING = "warning"
    OVER_18 = "over18"
    PLEASE_SIGN_IN = "signin"
    HATE_SPEECH = "hate"
    COPYRIGHT_BLOCK = "blocked"
    MEMBERS_LEVEL = "memlvl"
    TRAILER = "trailer"
    REFUSED_ONCE = "refonce"
    # Refusals that only some clients get.
    FOR_KIDS = "forkids"
    AGE_EMBEDDABLE = "ageembd"
    EMBED_REFUSED = "noembed"
    # A page or an API that refuses.
    API_403 = "api403"
    PRECONDITION = "precond"
    QUOTA = "quota"
    SORRY = "sorry"
    SORRY_PAGE = "sorrypg"
    PAGE_ONLY_429 = "pageonl"
    # Answers that differ by client.
    BY_CLIENT = "clients"
    SABR = "sabr"
    SABR_SOME = "sabrsom"
    DRM_TV = "drmtv"
    TV_FORBIDDEN = "tv403"
    TV_FORBIDDEN_LATE = "tvlate"
    VISIONOS_FORBIDDEN = "vis403"
    UNSOLVABLE = "nosolve"
    UNSOLVABLE_TV = "nosolvt"
    WRONG_SOLUTION = "badsolv"
    # A media server that refuses parts or large ranges, fails once, redirects or waits.
    FORBIDDEN_AFTER_PART = "part403"
    SMALL_RANGES = "range1m"
    BOUNDED_RANGES = "bounded"
    EMPTY_ONCE = "empty1"
    BUSY_TWICE = "busy503"
    RESET_ONCE = "reset1"
    LATE = "late"
    TO_ANOTHER_HOST = "redirok"
    AD = "ad"
    AD_SKIPPABLE = "adskip"
    # Manifests and recordings.
    HLS = "hls"
    HLS_PACKED = "hlspack"
    HLS_CHALLENGE = "hlsn"
    MUXED_AND_HLS = "muxhls"
    DASH = "dash"
    WAS_LIVE = "waslive"
    POST_LIVE = "postliv"
    POST_LIVE_SEGMENTS = "postseg"
    # Several audio tracks.
    DUBBED = "dubbed"
    DUBBED_BETTER = "dubbest"
    DUBBED_ALIKE = "dubsame"
    DESCRIPTIVE = "descrip"
    LEVELLED = "drc"
    SURROUND = "surroun"
    AC3 = "ac3"
    EAC3 = "eac3"
    AMBISONIC = "ambison"
    TRACK_SHORTER = "shorter"
    # Songs of YouTube Music, and videos with chapters.
    MUSIC = "music"
    CHAPTERS = "chapter"


def video_id(kind: Kind | str, number: int = 0) -> str:
    """Return the id of the number-th video of a kind. Raises ValueError outside 0 to 9999."""
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"number must be 0 to {MAX_NUMBER}")
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
