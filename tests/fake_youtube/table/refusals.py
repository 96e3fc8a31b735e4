"""What YouTube says instead of playing a video, in its own words."""

from typing import Final

from tests.fake_youtube.behaviour import EVERY_CLIENT, Behaviour, Client, Extraction, Refusal
from tests.fake_youtube.kinds import Kind

_MADE_FOR_KIDS: Final = Refusal(status="UNPLAYABLE", reason="Video unavailable", subreason="This video is unavailable")
_AGE: Final = Refusal(
    status="LOGIN_REQUIRED",
    reason="Sign in to confirm your age",
    subreason="This video may be inappropriate for some users.",
)


def _refused(summary: str, expected: str, status: str, reason: str, subreason: str | None = None) -> Behaviour:
    refusal = Refusal(status=status, reason=reason, subreason=subreason)
    return Behaviour(summary=summary, expected=expected, refusal=refusal)


def _extracted(summary: str, expected: str, extraction: Extraction) -> Behaviour:
    return Behaviour(summary=summary, expected=expected, extraction=extraction)


REFUSALS: Final[dict[Kind, Behaviour]] = {
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
    Kind.UPCOMING: _refused(
        "a live event to come", "upcoming", "LIVE_STREAM_OFFLINE", "This live event will begin in 2 hours."
    ),
    Kind.PREMIERE: _refused("a premiere to come", "upcoming", "LIVE_STREAM_OFFLINE", "Premieres in 2 hours"),
}

UNUSUAL_REFUSALS: Final[dict[Kind, Behaviour]] = {
    # A client that YouTube no longer serves: every video says so, and another client or a newer yt-dlp helps.
    Kind.NOT_ON_APP: _refused(
        "content not available on this app",
        "extractor_broken",
        "ERROR",
        "The following content is not available on this app.",
        "Watch on the latest version of YouTube.",
    ),
    Kind.OUT_OF_DATE: _refused(
        "the app is out of date",
        "extractor_broken",
        "UNPLAYABLE",
        "This app is out of date",
        "Update to the latest version of YouTube to watch this video.",
    ),
    Kind.NOT_ON_DEVICE: _refused(
        "not available on this device",
        "extractor_broken",
        "UNPLAYABLE",
        "Video unavailable",
        "This video is unavailable on this device.",
    ),
    Kind.RELOAD: _refused(
        "page has to be reloaded", "extractor_broken", "UNPLAYABLE", "The page needs to be reloaded."
    ),
    # Trouble that passes.
    Kind.TRY_LATER: _refused(
        "an error; try again later", "upstream_error", "ERROR", "An error occurred. Please try again later."
    ),
    Kind.WENT_WRONG: _refused("something went wrong", "upstream_error", "ERROR", "Something went wrong."),
    Kind.PROCESSING: _refused(
        "a fresh upload that is still being processed",
        "upcoming",
        "ERROR",
        "We're processing this video. Check back later.",
    ),
    Kind.OFFLINE: _refused("a stream that has not begun", "upcoming", "LIVE_STREAM_OFFLINE", "Offline."),
    Kind.REFUSED_ONCE: Behaviour(
        summary="first extraction: unavailable, then normal",
        expected="done",
        refusal=Refusal(
            status="ERROR", reason="Video unavailable", subreason="This video is not available", only_first=True
        ),
    ),
    # The operator's network or account.
    Kind.RESTRICTED_MODE: _refused(
        "hidden by restricted mode",
        "video_unavailable",
        "ERROR",
        "Video unavailable",
        "This video is unavailable with Restricted Mode enabled. To view this video, you will need to disable "
        "Restricted Mode.",
    ),
    Kind.ADMINISTRATOR: _refused(
        "hidden by an administrator",
        "video_unavailable",
        "ERROR",
        "Video unavailable",
        "This video is restricted. Please check the Google Workspace administrator and/or the network administrator "
        "restrictions.",
    ),
    # The video itself.
    Kind.CONTENT_WARNING: Behaviour(
        summary="a content warning that wants a click",
        expected="age_restricted",
        refusal=Refusal(
            status="CONTENT_CHECK_REQUIRED",
            reason="The following content may contain suicide or self-harm topics.",
            subreason="Viewer discretion is advised.",
            interstitial=True,
        ),
    ),
    Kind.OVER_18: _refused("over 18 only", "age_restricted", "LOGIN_REQUIRED", "Sign in to confirm you're over 18"),
    Kind.PLEASE_SIGN_IN: _refused("a login is wanted", "bot_check", "LOGIN_REQUIRED", "Please sign in"),
    Kind.HATE_SPEECH: _refused(
        "removed as hate speech",
        "removed",
        "ERROR",
        "Video unavailable",
        "This video has been removed for violating YouTube's policy on hate speech. Learn more about combating hate "
        "speech in your country.",
    ),
    Kind.COPYRIGHT_BLOCK: _refused(
        "blocked by its claimant",
        "region_blocked",
        "ERROR",
        "Video unavailable",
        "This video contains content from Example Music, who has blocked it on copyright grounds.",
    ),
    Kind.MEMBERS_LEVEL: _refused(
        "for members of one level only",
        "members_only",
        "UNPLAYABLE",
        "This video is available to this channel's members on level: Gold (or any higher level).",
    ),
    Kind.TRAILER: Behaviour(
        summary="a film that must be paid: YouTube offers short__0001 as its trailer",
        expected="members_only",
        refusal=Refusal(status="UNPLAYABLE", reason="This video requires payment to watch.", trailer="short__0001"),
    ),
    # Only some clients are refused.
    Kind.FOR_KIDS: Behaviour(
        summary="made for kids: the headset clients are refused",
        expected="done",
        refusal=_MADE_FOR_KIDS,
        refused_clients=frozenset({Client.VISIONOS, Client.ANDROID_VR}),
        for_kids=True,
    ),
    Kind.AGE_EMBEDDABLE: Behaviour(
        summary="age restricted, but the embedded player may show it",
        expected="done",
        refusal=_AGE,
        refused_clients=EVERY_CLIENT - {Client.WEB_EMBEDDED},
    ),
    Kind.EMBED_REFUSED: Behaviour(
        summary="made for kids, and embedding is off: only the television clients are left",
        expected="done",
        refusal=Refusal(
            status="UNPLAYABLE",
            reason="Video unavailable",
            subreason="Playback on other websites has been disabled by the video owner",
        ),
        refused_clients=frozenset({Client.VISIONOS, Client.ANDROID_VR, Client.WEB_EMBEDDED}),
        for_kids=True,
    ),
    # A page or an API that refuses.
    Kind.API_403: _extracted("page answers, player API 403", "bot_check", Extraction.API_FORBIDDEN),
    Kind.PRECONDITION: _extracted(
        "player API 400, precondition check failed", "extractor_broken", Extraction.API_PRECONDITION
    ),
    Kind.QUOTA: _extracted("player API 429, quota exhausted", "rate_limited_upstream", Extraction.API_QUOTA),
    Kind.SORRY: _extracted(
        "page and player API redirect to Google's captcha page", "rate_limited_upstream", Extraction.SORRY
    ),
    Kind.SORRY_PAGE: _extracted("page alone redirects to the captcha page", "done", Extraction.SORRY_PAGE),
    Kind.PAGE_ONLY_429: _extracted("page alone answers 429", "done", Extraction.PAGE_TOO_MANY),
}
