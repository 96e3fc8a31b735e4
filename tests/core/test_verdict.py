"""The error code of a failure at YouTube: decided by facts if there are any, otherwise by the message."""

import ast
from pathlib import Path

import pytest
import yt_dlp.extractor.youtube
from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.youtube_messages import RAISED, YOUTUBE
from ytmp3.converter.youtube.evidence import Evidence, Formats, count_formats
from ytmp3.converter.youtube.messages import code_of_youtube_message, neutral
from ytmp3.converter.youtube.signs import (
    RELEASE,
    Sign,
    sign_of_debug,
    sign_of_status,
    sign_of_transport,
    sign_of_warning,
)
from ytmp3.converter.youtube.verdict import judge_error, judge_formats
from ytmp3.core.errors import FAILURES
from ytmp3.core.errors import FailureCode as F

ID = "dQw4w9WgXcQ"
PLAYER = "https://www.youtube.com/youtubei/v1/player?prettyPrint=false"
VAGUE = "No video formats found!; please report this issue on  https://github.com/..."
RAISING = {"ExtractorError", "raise_login_required", "raise_geo_restricted", "raise_no_formats", "report_drm"}


def code_of(message: str, video_id: str = ID, seen: Evidence | None = None) -> F:
    text = f"DownloadError: ERROR: [youtube] {video_id}: {message}"
    return judge_error(text, video_id, seen or Evidence(), is_extracted=False).code


def seen(*signs: Sign, replies: bool = True) -> Evidence:
    """Return evidence of warnings."""
    evidence = Evidence()
    if replies:
        evidence.answered("https://www.youtube.com/watch")
    for sign in signs:
        evidence.warned(sign)
    return evidence


def unanswered(sign: Sign, *, replies: bool = False) -> Evidence:
    """Return evidence of a request that got no response."""
    evidence = seen(replies=replies)
    evidence.unanswered("https://www.youtube.com/watch", sign)
    return evidence


@pytest.mark.parametrize(("code", "message"), YOUTUBE)
def test_a_text_gets_its_code(code: F, message: str) -> None:
    assert code_of_youtube_message(neutral(message, ID)) is code
    assert code_of(message) is code


@given(video_id=st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=11, max_size=11))
@example(video_id="xTLsabcdefg")
@example(video_id="aSSLbcdefgh")
@example(video_id="-DRM-json--")
@example(video_id="captchaquot")
def test_the_code_does_not_depend_on_the_videos_id(video_id: str) -> None:
    for code, message in YOUTUBE:
        assert code_of(message, video_id) is code, message


@pytest.mark.parametrize("name", ["Members Only Music", "Private Video", "DRM", "HTTP Error 429", "not a bot", "TLS"])
def test_the_code_does_not_depend_on_a_name_in_the_text(name: str) -> None:
    assert code_of(f"This video is no longer available due to a copyright claim by {name}") is F.REMOVED
    assert code_of(f"This video contains content from {name}, who has blocked it in your country") is F.REGION_BLOCKED
    text = f"This video is available to this channel's members on level: {name} (or any higher level)."
    assert code_of(text) is F.MEMBERS_ONLY


def test_every_text_that_the_locked_yt_dlp_can_raise_has_a_code() -> None:
    folder = Path(yt_dlp.extractor.youtube.__file__).parent
    raised = set[str]()
    for name in ("_video.py", "_base.py"):
        for node in ast.walk(ast.parse((folder / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if function in RAISING:
                    raised.add(ast.unparse(node.args[0]))
    assert raised == set(RAISED), "yt-dlp has new texts, or no longer these: add or remove them"
    for text, code in RAISED.items():
        if code is not None:
            assert code_of_youtube_message(neutral(text.removeprefix("f")[1:-1], ID)) is code, text


def test_an_unknown_text_is_retried_and_reported_as_unknown() -> None:
    for text in ("a message that no version has written yet", ""):
        verdict = judge_error(text, ID, Evidence(), is_extracted=False)
        assert (verdict.code, verdict.is_known) == (F.UPSTREAM_ERROR, False)
    assert FAILURES[F.UPSTREAM_ERROR].retryable
    assert judge_error("HTTP Error 500", ID, Evidence(), is_extracted=False).is_known


def test_signs_of_our_address_decide_only_where_the_text_is_vague() -> None:
    for sign, code in ((Sign.RATE_LIMITED, F.RATE_LIMITED_UPSTREAM), (Sign.BOT_CHECK, F.BOT_CHECK)):
        assert code_of(VAGUE, seen=seen(sign)) is code
        assert code_of("This video is private", seen=seen(sign)) is F.PRIVATE


@pytest.mark.parametrize("sign", sorted(RELEASE))
def test_formats_that_are_missing_because_of_us_are_no_property_of_the_video(sign: Sign) -> None:
    assert code_of("Failed to extract any player response", seen=seen(sign)) is F.EXTRACTOR_BROKEN
    assert judge_formats(Formats(video=3, storyboards=4), seen(sign)) is not None
    for formats in (Formats(), Formats(storyboards=4), Formats(video=3)):
        verdict = judge_formats(formats, seen(sign))
        assert verdict is not None
        assert verdict.code is F.EXTRACTOR_BROKEN


def test_a_download_that_fails_is_not_blamed_on_the_extraction() -> None:
    verdict = judge_error("HTTP Error 403: Forbidden", ID, seen(Sign.PO_TOKEN), is_extracted=True)
    assert verdict.code is F.UPSTREAM_ERROR


def test_a_video_has_no_sound_only_if_a_picture_was_listed() -> None:
    codes = {
        formats: verdict and verdict.code
        for formats in (Formats(video=1), Formats(storyboards=1), Formats(), Formats(audio=1), Formats(protected=2))
        for verdict in [judge_formats(formats, seen())]
    }
    assert codes == {
        Formats(video=1): F.NO_AUDIO,
        Formats(storyboards=1): F.EXTRACTOR_BROKEN,
        Formats(): F.EXTRACTOR_BROKEN,
        Formats(audio=1): None,
        Formats(protected=2): F.DRM,
    }


def test_formats_are_sorted_by_kind() -> None:
    listed: list[dict[str, object]] = [
        {"protocol": "https", "acodec": "opus", "vcodec": "none"},
        {"protocol": "https", "acodec": "none", "vcodec": "avc1"},
        {"protocol": "m3u8_native"},
        {"protocol": "mhtml", "acodec": "none", "vcodec": "none"},
        {"protocol": "https", "acodec": "opus", "vcodec": "none", "has_drm": True},
        {"protocol": "m3u8_native", "acodec": "aac", "vcodec": "none", "has_drm": "maybe"},
    ]
    assert count_formats(listed) == Formats(audio=2, muxed=1, video=1, protected=1, storyboards=1)


@pytest.mark.parametrize(
    ("sign", "silent", "talking"),
    [
        (Sign.UNRESOLVED, F.UPSTREAM_UNREACHABLE, F.UPSTREAM_UNREACHABLE),
        (Sign.UNREACHABLE, F.UPSTREAM_UNREACHABLE, F.UPSTREAM_UNREACHABLE),
        (Sign.TIMEOUT, F.UPSTREAM_UNREACHABLE, F.UPSTREAM_TIMEOUT),
        (Sign.BROKEN_CONNECTION, F.UPSTREAM_UNREACHABLE, F.UPSTREAM_ERROR),
        (Sign.PROXY_LOGIN, F.EGRESS_MISCONFIGURED, F.EGRESS_MISCONFIGURED),
        (Sign.PROXY_SCHEME, F.EGRESS_MISCONFIGURED, F.EGRESS_MISCONFIGURED),
        (Sign.SOURCE_ADDRESS, F.EGRESS_MISCONFIGURED, F.EGRESS_MISCONFIGURED),
        (Sign.CERTIFICATE, F.EGRESS_MISCONFIGURED, F.EGRESS_MISCONFIGURED),
        (Sign.COOKIES, F.BOT_CHECK, F.BOT_CHECK),
        (Sign.UNREADABLE, F.UPSTREAM_ERROR, F.UPSTREAM_ERROR),
    ],
)
def test_a_request_without_a_response_tells_whose_fault_it_is(sign: Sign, silent: F, talking: F) -> None:
    """`silent`: YouTube has said nothing at all; `talking`: it has answered an earlier request."""
    text = "Failed to extract any player response"
    assert code_of(text, seen=unanswered(sign)) is silent
    assert code_of(text, seen=unanswered(sign, replies=True)) is talking


def test_cookies_that_are_not_accepted_are_the_operators_matter() -> None:
    evidence = unanswered(Sign.COOKIES)
    evidence.has_cookies = True
    assert code_of(VAGUE, seen=evidence) is F.EGRESS_MISCONFIGURED


def test_a_problem_that_has_passed_is_not_blamed() -> None:
    evidence = unanswered(Sign.UNREACHABLE)
    evidence.answered("https://www.youtube.com/watch")
    assert code_of("HTTP Error 403: Forbidden", seen=evidence) is F.UPSTREAM_ERROR


@pytest.mark.parametrize(("status", "code"), [(400, F.EXTRACTOR_BROKEN), (403, F.BOT_CHECK), (500, F.UPSTREAM_ERROR)])
def test_a_status_that_all_clients_get_decides(status: int, code: F) -> None:
    evidence = Evidence()
    for _ in range(3):
        evidence.refused(PLAYER, sign_of_status(status))
    assert code_of("Failed to extract any player response", seen=evidence) is code
    evidence.answered(PLAYER)
    assert code_of("Failed to extract any player response", seen=evidence) in {F.UPSTREAM_ERROR, F.EXTRACTOR_BROKEN}


def test_statuses_have_signs() -> None:
    assert [sign_of_status(status) for status in (400, 403, 404, 429, 503)] == [
        Sign.CLIENT_REFUSED,
        Sign.FORBIDDEN,
        Sign.HTTP_ERROR,
        Sign.RATE_LIMITED,
        Sign.SERVER_ERROR,
    ]


@pytest.mark.parametrize(
    ("sign", "text"),
    [
        (Sign.RATE_LIMITED, "redirected to Google's captcha page: HTTP Error 429: Too Many Requests"),
        (Sign.COOKIES, "redirected to Google's login page: the session's cookies are not accepted"),
        (Sign.FORBIDDEN, "redirected away from YouTube: HTTP Error 403: Forbidden"),
        (Sign.PROXY_LOGIN, "Tunnel connection failed: 407 Proxy Authentication Required"),
        (Sign.UNREACHABLE, "Tunnel connection failed: 502 Bad Gateway"),
        (Sign.PROXY_SCHEME, "To use an HTTPS proxy for this request, one of the following dependencies needs to be"),
        (Sign.CERTIFICATE, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"),
        (Sign.SOURCE_ADDRESS, "<urlopen error [Errno 99] Cannot assign requested address>"),
        (Sign.UNRESOLVED, "<urlopen error [Errno -2] Name or service not known>"),
        (Sign.UNRESOLVED, "<urlopen error [Errno -3] Temporary failure in name resolution>"),
        (Sign.UNRESOLVED, "name resolution gave no public address"),
        (Sign.UNREACHABLE, "<urlopen error [Errno 111] Connection refused>"),
        (Sign.UNREACHABLE, "<urlopen error [Errno 101] Network is unreachable>"),
        (Sign.TIMEOUT, "The read operation timed out"),
        (Sign.BROKEN_CONNECTION, "[Errno 104] Connection reset by peer"),
        (Sign.UNREADABLE, "unable to download: a response of more than 33554432 bytes"),
    ],
)
def test_a_failed_request_has_a_sign(sign: Sign, text: str) -> None:
    assert sign_of_transport(text) is sign


@pytest.mark.parametrize(
    ("sign", "text"),
    [
        (
            Sign.SABR_ONLY,
            "[youtube] Some tv_samsung client https formats have been skipped as they are missing a URL.",
        ),
        (Sign.CHALLENGE_FAILED, "[youtube] x: n challenge solving failed: Some formats may be missing. Ensure you"),
        (Sign.CHALLENGE_FAILED, "[youtube] x: Signature solving failed: Some formats may be missing. Ensure you"),
        (
            Sign.CHALLENGE_FAILED,
            "[youtube] x: n challenge solving failed: Ensure you have a challenge solver script installed.",
        ),
        (Sign.CHALLENGE_FAILED, '[youtube] [jsc] JS Challenge Provider "deno" returned an invalid response: no'),
        (Sign.CHALLENGE_FAILED, "[youtube] [jsc:deno] Error solving 2 challenge requests"),
        (Sign.ONLY_IMAGES, "Only images are available for download. use --list-formats to see them"),
        (Sign.NO_JS_RUNTIME, "[youtube] No supported JavaScript runtime could be found."),
        (Sign.NO_SOLVER, "[youtube] [jsc] Remote component challenge solver script (deno) was skipped."),
        (Sign.PO_TOKEN, "[youtube] x: web client https formats require a GVS PO Token which was not provided."),
        (Sign.BOT_CHECK, "[youtube] YouTube said: Sign in to confirm you're not a bot"),
        (Sign.RATE_LIMITED, "[youtube] Unable to download webpage: HTTP Error 429: Too Many Requests"),
        (Sign.CLIENT_WITHOUT_COOKIES, 'Skipping client "visionos" since it does not support cookies'),
        (Sign.COOKIES, "[youtube] The provided YouTube account cookies are no longer valid."),
        (Sign.OTHER_VIDEO, "[youtube] Skipping player responses from visionos clients"),
        (Sign.FORBIDDEN, "[youtube] Unable to download API page: HTTP Error 403: Forbidden"),
        (Sign.OTHER, "[youtube] something else"),
    ],
)
def test_a_warning_has_a_sign(sign: Sign, text: str) -> None:
    assert sign_of_warning(text) is sign


def test_formats_that_are_left_out_silently_have_a_sign() -> None:
    template = "[youtube] x: Some web client https formats have been skipped as they are missing a URL. YouTube is forc"
    assert sign_of_debug(template) is Sign.SABR_ONLY
    token = "[youtube] x: web client https formats require a GVS PO Token which was not provided. They will be skipped"
    assert sign_of_debug(token) is Sign.PO_TOKEN
    assert sign_of_debug("[youtube] x: Retrieved a gvs PO Token for web client") is None
    assert sign_of_debug("[debug] some formats have been skipped") is None


def test_evidence_is_counted_by_kind() -> None:
    assert seen(Sign.DRM, Sign.DRM, Sign.OTHER).kinds() == {"drm": 2, "other": 1}
