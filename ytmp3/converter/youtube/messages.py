"""Error codes for the texts with which yt-dlp gives up on a video. Pure.

YouTube's reasons reach us through yt-dlp in English, because yt-dlp asks for `hl=en`. The order matters: a reason that
names the video ("This video is private") comes before the general words that YouTube puts around it ("Video
unavailable"), and a removal comes before its explanation ("hate speech ... in your country").
"""

import re
from typing import Final

from ytmp3.converter.classify import Table, compiled, first_match
from ytmp3.core.errors import FailureCode

_YOUTUBE: Final[Table] = (
    (
        FailureCode.RATE_LIMITED_UPSTREAM,
        (
            r"content isn't available, try again later|rate-limited by youtube|HTTP Error 429\b|Too Many Requests",
            r"resource has been exhausted|check quota",
        ),
    ),
    (
        FailureCode.UPSTREAM_ERROR,
        (r"\ban error occurred|something went wrong",),
    ),
    (
        FailureCode.REMOVED,
        (r"(?:has|have) been removed|(?:was|is) removed|removed for violating|hate speech",),
    ),
    (
        FailureCode.EGRESS_MISCONFIGURED,
        (r"proxy authentication required|HTTPS proxy",),
    ),
    # The operator's own network filters YouTube; `signs.sign_of_failure` tells the operator.
    (
        FailureCode.VIDEO_UNAVAILABLE,
        (r"restricted mode|(?:network|workspace|your) administrator",),
    ),
    (
        FailureCode.UPCOMING,
        (
            r"premieres in|premieres? will begin|will begin in|live event (?:will begin|has not)|is upcoming",
            r"scheduled for|^offline\b|waiting for .* to start|video has not started",
            r"processing this video|video is still being processed",
        ),
    ),
    (
        FailureCode.LIVE,
        (
            r"live stream recording is not available|live event has ended|\bis_live\b|is a live stream|still live",
            r"currently live|\bpost.live\b",
        ),
    ),
    (
        FailureCode.MEMBERS_ONLY,
        (
            r"members[- ]only|join this channel|channel's members|available to (?:this channel|members)",
            r"requires payment|premium members|music premium|members on level|purchase|paid channel",
            r"rent(?:al)? (?:this|is required)|must be (?:bought|purchased|rented)",
        ),
    ),
    (
        FailureCode.AGE_RESTRICTED,
        (
            r"confirm your age|confirm (?:that )?you're (?:over|at least) \d|age[- ]restricted|age[- ]verif",
            r"inappropriate for some users|content warning|suicide or self-harm|inappropriate or offensive",
        ),
    ),
    (
        FailureCode.PRIVATE,
        (r"private video|video is private|is a private|granted access to this video",),
    ),
    (
        FailureCode.BOT_CHECK,
        (
            r"not a bot\b|captcha|unusual traffic|^please sign in\b|please sign in to continue|HTTP Error 402\b",
            r"IP is likely being blocked|login details are needed|redirected to Google's login page",
            r"only available for registered users",
        ),
    ),
    (
        FailureCode.REGION_BLOCKED,
        (
            r"in your (?:country|region|location)|not available from your location|geo.?restrict|blocked it in",
            r"country on copyright|available in \w+ only|on this (?:domain|country)|blocked it on copyright grounds",
        ),
    ),
    (
        FailureCode.REMOVED,
        (
            r"no longer available|account .*(?:terminated|closed|suspended)|has closed their|terms of service",
            r"violat(?:es|ed|ing) |copyright (?:claim|grounds|infring|strike)|deleted",
        ),
    ),
    (
        FailureCode.DRM,
        (r"\bDRM\b",),
    ),
    # The player client is refused, or yt-dlp does not understand the answer. Another client or release may do better.
    (
        FailureCode.EXTRACTOR_BROKEN,
        (
            r"not available on this app|latest version of youtube|out of date|\bupdate (?:your|the) (?:app|youtube)",
            r"on this device|playback on other websites|precondition check failed|invalid argument",
            r"page needs to be reloaded|requested format is not available|only images are available",
            r"no video formats found|no supported javascript runtime|cannot identify player",
            r"no player clients have been requested|an extractor error has occurred|incomplete data received",
            r"unable to extract|failed to extract (?!any player response)|no suitable extractor|unsupported url",
            r"javascript (?:player|runtime)|no longer supported|unsupported language code|is not a valid url",
            r"invalid url",
        ),
    ),
    (
        FailureCode.NO_AUDIO,
        (r"no audio",),
    ),
    (
        FailureCode.TOO_LARGE,
        (r"file too large|larger than max-filesize|\[Errno 27\]",),
    ),
    (
        FailureCode.STORAGE_FULL,
        (r"\[Errno 28\]|no space left|\[Errno 122\]|disk quota",),
    ),
    # No byte at position 0: the file is empty.
    (FailureCode.MEDIA_INVALID, (r"HTTP Error 416\b",)),
    (
        FailureCode.UPSTREAM_TIMEOUT,
        (r"timed? ?out\b|\btimeout\b|deadline exceeded|HTTP Error (?:408|504|524)\b",),
    ),
    (
        FailureCode.TOOL_MISSING,
        (r"\[Errno 12\]|cannot allocate memory|MemoryError|ModuleNotFoundError|ImportError|\[Errno 24\]",),
    ),
    (
        FailureCode.UPSTREAM_ERROR,
        (
            r"HTTP Error [345]\d\d|connection (?:reset|refused|aborted|broken)|reset by peer|incomplete ?read",
            r"bytes read|expected \d+ bytes|ended without a byte",
            r"\bssl\b|_ssl\.c|\btls\b|certificate|\bproxy\b|proxyerror|tunnel connection|name or service",
            r"name resolution|getaddrinfo",
            r"network is unreachable|no route to host|remote end closed|badstatusline|eof occurred|content too short",
            r"ContentTooShort|did not get any data|a network error has occurred|failed to extract any player response",
            r"unable to (?:download|connect)|failed to (?:parse|download)|giving up|redirect",
            r"\[Errno 10[0-9]\]|\[Errno 11[0-3]\]|download ended without success|\bfragment",
            r"transporterror|broken pipe|started over in mid-file|a response of more than",
            r"\bjson\b|JSONDecodeError",
        ),
    ),
    (
        FailureCode.VIDEO_UNAVAILABLE,
        (
            r"video (?:is )?(?:not available|unavailable)|isn.t available|not available|unavailable|does not exist",
            r"incomplete youtube id|truncated_id|not a single video",
        ),
    ),
)


_YOUTUBE_PATTERNS: Final = compiled(_YOUTUBE)

# Sentences of YouTube with somebody's name inside: everything between the fixed words is cut out.
_NAMES: Final = tuple(
    (re.compile(expression, re.IGNORECASE | re.DOTALL), kept)
    for expression, kept in (
        (r"(contains content from) .*?(,? (?:one or more of whom|who|and) (?:have|has) blocked it)", r"\1 -\2"),
        (r"(copyright claim by) .*", r"\1 -"),
        (r"(members on level):? .*?(\(or any higher level\)|$)", r"\1 - \2"),
        (r"(content owned by) .*?( is| has|$)", r"\1 -\2"),
        (r"(only available (?:to|for) members of) .*", r"\1 -"),
        (r"(unsupported|is not a valid) url:? .*", r"\1 url"),
    )
)
_PREFIX: Final = re.compile(
    r"^(?:(?:Download|Extractor|GeoRestricted)Error: )?(?:ERROR: )?(?:\[[\w:+-]+\] )?(?:[\w-]{11}: )?"
)
_ADDRESS: Final = re.compile(r"\w+://\S+")


def neutral(text: str, video_id: str) -> str:
    """Return a final error of yt-dlp without the id, the names and the addresses in it, for `code_of_youtube_message`.

    YouTube writes a typographic apostrophe in some reasons and a plain one in others; the result has plain ones.
    """
    text = _PREFIX.sub("", text.replace("\u2019", "'"), count=1)
    text = _ADDRESS.sub("", text.replace(video_id, "-") if video_id else text)
    for name, kept in _NAMES:
        text = name.sub(kept, text)
    return text


def code_of_youtube_message(text: str) -> FailureCode | None:
    """Return the code for a `neutral` text; None if no row of the table knows it."""
    return first_match(_YOUTUBE_PATTERNS, text)
