"""Decides which error code a failed extraction or download gets. Pure; called in the downloading child.

Facts decide where there are any: what the requests met, which warnings yt-dlp gave, which formats it listed. The text
of the final error decides only what facts cannot say (private, removed, members only). The video's id and the names in
YouTube's sentences never take part: a claimant called "Private Video" must not change a verdict.
"""

from typing import Final

from msgspec import Struct

from ytmp3.converter.youtube.evidence import Evidence, Formats
from ytmp3.converter.youtube.messages import code_of_youtube_message, neutral
from ytmp3.converter.youtube.signs import NETWORK, RELEASE, SETTINGS, Sign
from ytmp3.core.errors import FailureCode

_VAGUE: Final = frozenset(
    {None, FailureCode.UPSTREAM_ERROR, FailureCode.UPSTREAM_TIMEOUT, FailureCode.EXTRACTOR_BROKEN}
)
"""Codes of texts behind which another cause may be hidden, such as "No video formats found"."""


_NO_REPLY: Final = frozenset({Sign.TIMEOUT, Sign.BROKEN_CONNECTION})
"""If nothing was ever answered, these mean that YouTube cannot be reached."""


class Verdict(Struct, frozen=True, kw_only=True):
    """The error code, and whether the text was known."""

    code: FailureCode
    is_known: bool = True


def judge_error(text: str, video_id: str, seen: Evidence, *, is_extracted: bool) -> Verdict:
    """Judge by the final error of yt-dlp.

    `is_extracted`: the extraction had succeeded, so the error is one of the download. An unknown text is an upstream
    error, which is tried again.
    """
    code = code_of_youtube_message(neutral(text, video_id))
    if code not in _VAGUE:
        assert code is not None
        return Verdict(code=code)
    hidden = _hidden_cause(seen)
    if hidden is not None:
        return Verdict(code=hidden)
    if not is_extracted and code is not FailureCode.UPSTREAM_TIMEOUT and seen.signs.keys() & RELEASE:
        return Verdict(code=FailureCode.EXTRACTOR_BROKEN)
    return Verdict(code=code or FailureCode.UPSTREAM_ERROR, is_known=code is not None)


def judge_formats(formats: Formats, seen: Evidence) -> Verdict | None:
    """Judge by the listed formats; None if there is one with sound to download.

    The video has no sound only if YouTube listed a picture that can be downloaded, and nothing says that formats are
    missing because of us.
    """
    if formats.with_sound:
        return None
    if formats.protected:
        return Verdict(code=FailureCode.DRM)
    hidden = _hidden_cause(seen)
    if hidden is not None:
        return Verdict(code=hidden)
    if formats.video and not seen.signs.keys() & RELEASE:
        return Verdict(code=FailureCode.NO_AUDIO)
    return Verdict(code=FailureCode.EXTRACTOR_BROKEN)


def _hidden_cause(seen: Evidence) -> FailureCode | None:
    """Return what the requests and warnings say about our settings, our network and our address."""
    is_silent = not seen.replies
    causes = (
        (seen.last in SETTINGS or (is_silent and seen.signs.keys() & SETTINGS), FailureCode.EGRESS_MISCONFIGURED),
        (seen.signs[Sign.RATE_LIMITED], FailureCode.RATE_LIMITED_UPSTREAM),
        (seen.last is Sign.COOKIES and seen.has_cookies, FailureCode.EGRESS_MISCONFIGURED),
        (
            seen.signs[Sign.BOT_CHECK] or seen.last is Sign.COOKIES or seen.all_players_said(Sign.FORBIDDEN),
            FailureCode.BOT_CHECK,
        ),
        (seen.last in NETWORK or (is_silent and seen.last in _NO_REPLY), FailureCode.UPSTREAM_UNREACHABLE),
        (seen.last is Sign.TIMEOUT, FailureCode.UPSTREAM_TIMEOUT),
        (seen.all_players_said(Sign.CLIENT_REFUSED), FailureCode.EXTRACTOR_BROKEN),
    )
    return next((code for applies, code in causes if applies), None)
