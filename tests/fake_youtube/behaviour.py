"""What a kind of video is made of. `table` gives each kind its `Behaviour`."""

import dataclasses
from enum import StrEnum, auto
from typing import Final


class Media(StrEnum):
    """Bodies that the media server can send; made and kept by `media`."""

    SHORT = auto()
    CLIP = auto()
    SONG = auto()
    MIX = auto()
    HOUR = auto()
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
    # One tone each, so that a test hears which track was taken; the frequencies are in `media.TONES`.
    ORIGINAL_OPUS = auto()
    ORIGINAL_AAC = auto()
    DUBBED_OPUS = auto()
    DUBBED_AAC = auto()
    DESCRIPTION_OPUS = auto()
    DESCRIPTION_SURROUND = auto()
    LEVELLED_OPUS = auto()
    SURROUND_AAC = auto()
    SURROUND_AC3 = auto()
    SURROUND_EAC3 = auto()
    AMBISONIC = auto()
    # Bodies of HLS audio; `manifests` cuts them into segments.
    TRANSPORT_SHORT = auto()
    TRANSPORT_CLIP = auto()
    TRANSPORT_SONG = auto()
    ADTS = auto()


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
    # Every link serves so many bytes as 35 % of the body has, from any place on, and then answers 403.
    FORBIDDEN_AFTER_PART = auto()
    # 403 for a range of more than 1 MiB.
    SMALL_RANGES = auto()
    # 403 for a request without the end of a range.
    BOUNDED_RANGES = auto()
    # The first link answers 200 without a byte.
    EMPTY_ONCE = auto()
    TOO_MANY = auto()
    BROKEN = auto()
    # The first two requests are answered with 503.
    BUSY_TWICE = auto()
    # The first request ends with a reset of the connection.
    RESET_ONCE = auto()
    # The first byte comes after the delay of `Pace`.
    LATE = auto()
    ENDLESS = auto()
    HUGE = auto()
    TO_METADATA = auto()
    TO_LOOPBACK = auto()
    TO_ITSELF = auto()
    TO_FILE = auto()
    TO_CHAIN = auto()
    # To another media host, with a changed query, as googlevideo does.
    TO_ANOTHER_HOST = auto()


class Extraction(StrEnum):
    """How the page and the player API behave, when not by answering at once."""

    NORMAL = auto()
    DELAYED = auto()
    HANGS = auto()
    TOO_MANY = auto()
    PAGE_TOO_MANY = auto()
    BROKEN = auto()
    CAPTCHA = auto()
    # A redirect to Google's own captcha page, which answers 429.
    SORRY = auto()
    SORRY_PAGE = auto()
    API_FORBIDDEN = auto()
    API_PRECONDITION = auto()
    API_QUOTA = auto()
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
    # No format: only the manifest of `Behaviour.manifest`.
    MANIFEST_ONLY = auto()
    MUXED_AND_MANIFEST = auto()


class Manifest(StrEnum):
    NONE = auto()
    HLS = auto()
    # Packed audio: AAC with an ID3 tag before each segment (RFC 8216, section 3.4).
    HLS_PACKED = auto()
    # An `n` challenge in the manifest's address.
    HLS_CHALLENGE = auto()
    DASH = auto()


class Client(StrEnum):
    """The `clientName` of a player request. Some of yt-dlp's clients share one, such as `tv` and `tv_samsung`."""

    WEB = "WEB"
    MWEB = "MWEB"
    WEB_EMBEDDED = "WEB_EMBEDDED_PLAYER"
    WEB_MUSIC = "WEB_REMIX"
    WEB_CREATOR = "WEB_CREATOR"
    TV = "TVHTML5"
    TV_SIMPLY = "TVHTML5_SIMPLY"
    ANDROID = "ANDROID"
    ANDROID_VR = "ANDROID_VR"
    IOS = "IOS"
    VISIONOS = "VISIONOS"


class Links(StrEnum):
    """How a client's formats carry their links."""

    PLAIN = auto()
    # `signatureCipher` and `n`: the player script has to be solved.
    SCRAMBLED = auto()
    # No link at all: the client would stream over SABR, a protocol that yt-dlp does not have.
    SABR = auto()
    PROTECTED = auto()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One audio format. `language`, `name` and `default` are fields of YouTube's `audioTrack`."""

    itag: int
    media: Media
    language: str | None = None
    name: str | None = None
    default: bool = False
    content: str = ""  # `original`, `dubbed-auto` or `descriptive`, as in a link's `xtags`
    levelled: bool = False  # YouTube's DRC
    channels: int = 2
    spatial: bool = False
    quality: str = "MEDIUM"
    kbps: int = 130

    @property
    def tags(self) -> str:
        """The `xtags` of this track's link: with the itag, they name a track."""
        parts = [f"acont={self.content}"] if self.content else []
        parts += ["drc=1"] if self.levelled else []
        parts += [f"lang={self.language.partition('.')[0]}"] if self.language else []
        return ":".join(parts)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A `playabilityStatus` that is not OK, in YouTube's own words."""

    status: str
    reason: str
    subreason: str | None = None
    # Where YouTube puts the words: in an error message, or (a content warning) in an interstitial.
    interstitial: bool = False
    trailer: str | None = None  # the id of another video
    only_first: bool = False  # a second extraction is answered normally


EVERY_CLIENT: Final = frozenset(Client)
TELEVISIONS: Final = frozenset({Client.TV, Client.TV_SIMPLY})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    summary: str
    expected: str  # "done", or the error code of the service's failed job
    media: Media = Media.SHORT
    seconds: int | None = None  # the video's announced length; the media's own when None
    track_seconds: int | None = None  # the audio track's; the video's when None
    tracks: tuple[Track, ...] = ()  # the audio formats; one of `media` when empty
    offer: Offer = Offer.AUDIO
    manifest: Manifest = Manifest.NONE
    delivery: Delivery = Delivery.WHOLE
    extraction: Extraction = Extraction.NORMAL
    thumbnail: Thumbnail = Thumbnail.NORMAL
    refusal: Refusal | None = None
    refused_clients: frozenset[Client] = EVERY_CLIENT  # who gets `refusal`
    links: dict[Client, Links] = dataclasses.field(default_factory=dict)  # instead of what a client would get
    by_client: bool = False  # answers differ by client, whatever the setting says
    player: str | None = None  # the player script's name, when the page names another one than the setting
    forbidden_clients: frozenset[Client] = frozenset()  # whose media links are refused
    forbidden_from: float = 0.0  # from this share of the body on
    ad: str = ""  # "whole" or "skippable": an advertisement first, of as many seconds as the video's number
    stream: str = ""  # "was" or "post": a recorded live stream, or one that YouTube has not finished recording
    for_kids: bool = False
    hostile_title: bool = False
    is_song: bool = False  # of YouTube Music, on a channel that YouTube made for its artist
    chapters: tuple[tuple[int, str], ...] = ()  # start in milliseconds, and title
    big_response: bool = False
    odd_fields: bool = False
