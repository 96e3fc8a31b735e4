"""Real messages of yt-dlp, YouTube and ffmpeg, and the error code of each."""

import pytest

from ytmp3.converter.audio.messages import code_of_ffmpeg_message
from ytmp3.converter.youtube.messages import code_of_youtube_message
from ytmp3.core.errors import FailureCode as F

LOGIN = "Use --cookies-from-browser or --cookies for the authentication. See  https://github.com/..."

# From YouTube's own playabilityStatus texts, as yt-dlp 2026.10.26 passes them on, and yt-dlp's own sentences.
YOUTUBE = [
    (F.PRIVATE, f"Private video. Sign in if you've been granted access to this video. {LOGIN}"),
    (F.PRIVATE, "Private video. Sign in if you\u2019ve been granted access to this video"),
    (F.PRIVATE, "This video is private."),
    (F.REMOVED, "Video unavailable. This video has been removed by the uploader"),
    (F.REMOVED, "Video unavailable. This video has been removed for violating YouTube's Terms of Service"),
    (F.REMOVED, "This video has been removed for violating YouTube's policy on hate speech."),
    (F.REMOVED, "Video unavailable. This video is no longer available due to a copyright claim by Example Music"),
    (
        F.REMOVED,
        "This video is no longer available because the YouTube account associated with this video has been terminated.",
    ),
    (F.REMOVED, "Video unavailable. This video is no longer available because the uploader has closed their account"),
    (F.REMOVED, "This video was removed because it was too long"),
    (F.MEMBERS_ONLY, "Join this channel to get access to members-only content like this video, and other perks."),
    (F.MEMBERS_ONLY, "This video is available to this channel's members on level: Gold (or any higher level)."),
    (F.MEMBERS_ONLY, "This video is only available to Music Premium members"),
    (F.MEMBERS_ONLY, "This video requires payment to watch"),
    (F.AGE_RESTRICTED, f"Sign in to confirm your age. This video may be inappropriate for some users. {LOGIN}"),
    (F.AGE_RESTRICTED, "This video is age-restricted and only available on YouTube"),
    (F.AGE_RESTRICTED, "This video is age restricted"),
    (F.REGION_BLOCKED, "The uploader has not made this video available in your country"),
    (F.REGION_BLOCKED, "Video unavailable. This video is not available in your country"),
    (F.REGION_BLOCKED, "This video contains content from SME, who has blocked it in your country on copyright grounds"),
    (F.REGION_BLOCKED, "This video is not available from your location due to geo restriction"),
    (F.LIVE, "This live stream recording is not available."),
    (F.LIVE, "This live event has ended."),
    (F.LIVE, "We're processing this video. Check back later."),
    (F.UPCOMING, "This live event will begin in 2 hours."),
    (F.UPCOMING, "This live event will begin in a few moments."),
    (F.UPCOMING, "Premieres in 2 hours"),
    (F.UPCOMING, "Premiere will begin shortly"),
    (F.BOT_CHECK, f"Sign in to confirm you\u2019re not a bot. {LOGIN}"),
    (F.BOT_CHECK, "Sign in to confirm you're not a bot"),
    (F.BOT_CHECK, "Video unavailable. YouTube is requiring a captcha challenge before playback"),
    (F.BOT_CHECK, "The page needs to be reloaded."),
    (F.BOT_CHECK, "All player responses are invalid. Your IP is likely being blocked by Youtube"),
    (
        F.RATE_LIMITED_UPSTREAM,
        "This content isn't available, try again later. The current session has been rate-limited by YouTube for up to",
    ),
    (F.RATE_LIMITED_UPSTREAM, "Video unavailable. This content isn\u2019t available, try again later."),
    (F.RATE_LIMITED_UPSTREAM, "HTTPError: HTTP Error 429: Too Many Requests"),
    (F.RATE_LIMITED_UPSTREAM, "Unable to download API page: HTTP Error 429: Too Many Requests (caused by <HTTPError>)"),
    (F.DRM, "This video is DRM protected"),
    (F.DRM, "[youtube] x: This video is DRM protected and Requested format is not available"),
    (F.NO_AUDIO, "Requested format is not available. Use --list-formats for a list of available formats"),
    (F.NO_AUDIO, "Only images are available for download. use --list-formats to see them"),
    (F.TOO_LARGE, "unable to write data: [Errno 27] File too large"),
    (F.OUTPUT_TRUNCATED, "unable to write data: [Errno 28] No space left on device"),
    (F.OUTPUT_TRUNCATED, "unable to open for writing: [Errno 122] Disk quota exceeded"),
    (F.MEDIA_INVALID, "HTTPError: HTTP Error 416: Requested Range Not Satisfiable"),
    (F.UPSTREAM_TIMEOUT, "Unable to download API page: The read operation timed out (caused by TransportError(...))"),
    (F.UPSTREAM_TIMEOUT, "<urlopen error [Errno 110] Connection timed out>"),
    (F.UPSTREAM_TIMEOUT, "HTTP Error 504: Gateway Timeout"),
    (F.UPSTREAM_ERROR, "HTTPError: HTTP Error 403: Forbidden"),
    (F.UPSTREAM_ERROR, "[download] Got error: HTTP Error 500: Internal Server Error. Giving up after 3 retries"),
    (F.UPSTREAM_ERROR, "Unable to download API page: HTTP Error 503: Service Unavailable"),
    (F.UPSTREAM_ERROR, "HTTPError: HTTP Error 302: Found (redirect loop detected)"),
    (F.UPSTREAM_ERROR, "[Errno 104] Connection reset by peer"),
    (F.UPSTREAM_ERROR, "<urlopen error [Errno 111] Connection refused>"),
    (F.UPSTREAM_ERROR, "<urlopen error [Errno -2] Name or service not known>"),
    (F.UPSTREAM_ERROR, "<urlopen error [Errno -3] Temporary failure in name resolution>"),
    (
        F.UPSTREAM_ERROR,
        "Unable to connect to proxy (caused by ProxyError('Tunnel connection failed: 502 Bad Gateway'))",
    ),
    (F.UPSTREAM_ERROR, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"),
    (F.UPSTREAM_ERROR, "EOF occurred in violation of protocol (_ssl.c:1006)"),
    (F.UPSTREAM_ERROR, "IncompleteRead: 177009 bytes read, 180000 more expected"),
    (F.UPSTREAM_ERROR, "Downloaded 177009 bytes, expected 354018 bytes"),
    (F.UPSTREAM_ERROR, "Did not get any data blocks"),
    (F.UPSTREAM_ERROR, "Remote end closed connection without response"),
    (F.UPSTREAM_ERROR, "Failed to extract any player response; please report this issue"),
    (F.UPSTREAM_ERROR, "No video formats found!; please report this issue on  https://github.com/..."),
    (F.UPSTREAM_ERROR, "Failed to parse JSON (caused by JSONDecodeError('Expecting value'))"),
    (F.UPSTREAM_ERROR, "a message that no version has written yet"),
    (F.UPSTREAM_ERROR, ""),
    (F.VIDEO_UNAVAILABLE, "Video unavailable. This video is unavailable"),
    (F.VIDEO_UNAVAILABLE, "Video unavailable"),
    (F.VIDEO_UNAVAILABLE, "This video isn't available anymore"),
    (F.VIDEO_UNAVAILABLE, "Video unavailable. Playback on other websites has been disabled by the video owner"),
    (F.TOOL_MISSING, "OSError: [Errno 12] Cannot allocate memory"),
]

FFMPEG = [
    (F.MEDIA_INVALID, "[matroska,webm @ 0x1] EBML header parsing failed\nInvalid data found when processing input"),
    (F.MEDIA_INVALID, "[mov,mp4,m4a,3gp,3g2,mj2 @ 0x1] moov atom not found"),
    (F.MEDIA_INVALID, "Error opening input file fd:.\nError opening input files: Invalid data found"),
    (F.MEDIA_INVALID, "[dec:aac @ 0x1] Error submitting packet to decoder: Invalid data found"),
    (F.MEDIA_INVALID, "[matroska @ 0x1] Codec (hevc) not on whitelist 'aac,opus'"),
    (F.MEDIA_INVALID, "[in#0 @ 0x1] error reading header\n[in#0 @ 0x1] Error opening input: Cannot allocate memory"),
    (F.MEDIA_INVALID, "a message that no version has written yet"),
    (F.NO_AUDIO, "Stream map '0:a:0' matches no streams.\nTo ignore this, add a trailing '?' to the map."),
    (F.NO_AUDIO, "Output file does not contain any stream"),
    (F.OUTPUT_TRUNCATED, "av_interleaved_write_frame(): No space left on device"),
    (F.TOO_LARGE, "av_interleaved_write_frame(): File too large"),
    (F.TOOL_MISSING, "Unknown encoder 'libmp3lame'"),
    (F.TOOL_MISSING, "fd:: Protocol not found"),
    (F.TOOL_MISSING, "[libmp3lame @ 0x1] Cannot allocate memory"),
    (F.TOOL_MISSING, "not started: No such file or directory"),
    (F.TOOL_MISSING, "ffmpeg: error while loading shared libraries: libavdevice.so.59"),
]


@pytest.mark.parametrize(("code", "message"), YOUTUBE)
def test_a_message_of_youtube_gets_its_code(code: F, message: str) -> None:
    assert code_of_youtube_message(message) is code
    assert code_of_youtube_message(f"DownloadError: ERROR: [youtube] dQw4w9WgXcQ: {message}") is code


@pytest.mark.parametrize(("code", "message"), FFMPEG)
def test_a_message_of_ffmpeg_gets_its_code(code: F, message: str) -> None:
    assert code_of_ffmpeg_message(f"status 1: {message}") is code


def test_warnings_count_only_for_general_errors_and_only_if_they_are_about_our_address() -> None:
    vague = "Failed to extract any player response"
    assert code_of_youtube_message(vague, "HTTP Error 429: Too Many Requests") is F.RATE_LIMITED_UPSTREAM
    assert code_of_youtube_message(vague, "Sign in to confirm you\u2019re not a bot") is F.BOT_CHECK
    assert code_of_youtube_message(vague, "This video is private") is F.UPSTREAM_ERROR
    assert code_of_youtube_message("This video is private", "HTTP Error 429") is F.PRIVATE


def test_the_tables_have_at_least_sixty_messages() -> None:
    assert len(YOUTUBE) + len(FFMPEG) >= 60
