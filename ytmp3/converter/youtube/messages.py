"""Error codes for the messages of yt-dlp and of YouTube. Pure.

YouTube's reasons reach us through yt-dlp in English, because yt-dlp asks for `hl=en`. The order matters: a reason that
names the video ("This video is private") comes before the general words that YouTube puts around it ("Video
unavailable"), and reasons about our own address come before reasons about the video, because they are retried.
"""

from typing import Final

from ytmp3.converter.classify import Table, compiled, first_match
from ytmp3.core.errors import FailureCode

_YOUTUBE: Final[Table] = (
    (
        FailureCode.RATE_LIMITED_UPSTREAM,
        (r"try again later|rate-limited by youtube|HTTP Error 429|Too Many Requests",),
    ),
    (
        FailureCode.BOT_CHECK,
        (
            r"not a bot|captcha|unusual traffic|page needs to be reloaded|please sign in to continue|HTTP Error 402",
            r"IP is likely being blocked",
        ),
    ),
    (
        FailureCode.UPCOMING,
        (
            r"premieres in|premieres? will begin|will begin in|live event (?:will begin|has not)|is upcoming",
            r"scheduled for|offline\.? .*waiting|waiting for .* to start|video has not started",
        ),
    ),
    (
        FailureCode.LIVE,
        (
            r"live stream recording is not available|live event has ended|is_live|is a live stream|still live",
            r"currently live|processing this video|video is still being processed|post.live",
        ),
    ),
    (
        FailureCode.MEMBERS_ONLY,
        (
            r"members[- ]only|join this channel|channel's members|available to this channel|requires payment",
            r"premium members|music premium|members on level|purchase|rent(?:al)? (?:this|is required)",
        ),
    ),
    (
        FailureCode.AGE_RESTRICTED,
        (r"confirm your age|age[- ]restricted|age[- ]verif|inappropriate for some users|content warning",),
    ),
    (
        FailureCode.PRIVATE,
        (r"private video|video is private|is a private|granted access to this video",),
    ),
    (
        FailureCode.REGION_BLOCKED,
        (
            r"in your (?:country|region|location)|not available from your location|geo.?restrict|blocked it in",
            r"country on copyright|available in \w+ only|on this (?:domain|country)|blocked it on copyright grounds in",
        ),
    ),
    (
        FailureCode.REMOVED,
        (
            r"(?:been|was) removed|no longer available|account .*(?:terminated|closed|suspended)|has closed their",
            r"violat(?:es|ed|ing) |copyright (?:claim|grounds|infring|strike)|deleted|hate speech|terms of service",
        ),
    ),
    (
        FailureCode.DRM,
        (r"\bDRM\b",),
    ),
    (
        FailureCode.NO_AUDIO,
        (r"requested format is not available|no audio|only images are available",),
    ),
    (
        FailureCode.TOO_LARGE,
        (r"file too large|larger than max-filesize|\[Errno 27\]",),
    ),
    (
        FailureCode.OUTPUT_TRUNCATED,
        (r"\[Errno 28\]|no space left|\[Errno 122\]|disk quota",),
    ),
    # No byte at position 0: the file is empty.
    (FailureCode.MEDIA_INVALID, (r"HTTP Error 416",)),
    (
        FailureCode.UPSTREAM_TIMEOUT,
        (r"timed? ?out|timeout|deadline exceeded|HTTP Error (?:408|504|524)",),
    ),
    (
        FailureCode.TOOL_MISSING,
        (
            r"\[Errno 12\]|cannot allocate memory|MemoryError|no supported javascript runtime|ModuleNotFoundError",
            r"ImportError|\[Errno 24\]",
        ),
    ),
    (
        FailureCode.UPSTREAM_ERROR,
        (
            r"HTTP Error [345]\d\d|connection (?:reset|refused|aborted|broken)|reset by peer|incomplete ?read",
            r"bytes read|expected \d+ bytes",
            r"ssl|tls|certificate|proxy|tunnel connection|name or service|name resolution|getaddrinfo",
            r"network is unreachable|no route to host|remote end closed|badstatusline|eof occurred|content too short",
            r"ContentTooShort|did not get any data",
            r"unable to (?:download|connect|extract)|failed to (?:extract|parse|download)|giving up|redirect",
            r"\[Errno 10[0-9]\]|\[Errno 11[0-3]\]|download ended without success|fragment",
            r"transporterror|broken pipe",
            r"json|no video formats found",
        ),
    ),
    (
        FailureCode.VIDEO_UNAVAILABLE,
        (
            r"video (?:is )?(?:not available|unavailable)|isn.t available|not available|unavailable|does not exist",
            r"incomplete youtube id|not a valid url|unsupported url|playback on other websites|truncated_id",
            r"no video formats found|no suitable extractor|not a single video",
        ),
    ),
)


_YOUTUBE_PATTERNS: Final = compiled(_YOUTUBE)


def code_of_youtube_message(message: str, warnings: str = "") -> FailureCode:
    """Return the code for yt-dlp's final error. An unknown message is an upstream error, so that it is retried.

    The warnings before it count only where the error itself is a general one, and then only if they are about our own
    address: a harmless warning must not decide about a video.
    """
    # YouTube writes a typographic apostrophe in some reasons and a plain one in others.
    code = first_match(_YOUTUBE_PATTERNS, message.replace("\u2019", "'")) or FailureCode.UPSTREAM_ERROR
    if code is FailureCode.UPSTREAM_ERROR:
        warned = first_match(_YOUTUBE_PATTERNS, warnings.replace("\u2019", "'"))
        if warned in {FailureCode.RATE_LIMITED_UPSTREAM, FailureCode.BOT_CHECK}:
            return warned
    return code
