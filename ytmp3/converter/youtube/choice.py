"""Chooses the format to download: the original sound, in stereo, in the best quality. Pure.

A client may ask for another language: then only the audio track of that language is considered.

yt-dlp's own order for YouTube puts quality, channels and codec before the language. So a dubbed track in Opus would win
against the original in AAC, and AC-3 with six channels against both.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from ytmp3.core.language import ORIGINAL, Language, closeness, tag_of_track
from ytmp3.core.recipe import Format

ORIGINAL_PREFERENCE: Final = 10
"""yt-dlp's `language_preference` of the original track. 5 is YouTube's default track, -1 a dubbed one or the only one,
-10 an audio description."""

WHOLE_SEGMENTS_SECONDS: Final = 2 * 3600
"""Longest stream of which the segments are complete soon after its end: later, YouTube keeps the last two hours."""

_PROTOCOLS: Final = ("http_dash_segments", "m3u8_native", "https")
"""The later the better: a plain file needs one request and can be resumed."""

_COPIED_CODECS: Final = {Format.M4A: "mp4a.40", Format.OPUS: "opus"}
"""How the names of the codecs begin that a copied format may hold. `mp4a.40` is AAC (RFC 6381)."""

_HARD_CODECS: Final = ("ac-3", "ac3", "ec-3", "eac3", "dts")
"""Codecs of surround sound that the encoder does not accept."""

_DAMAGED: Final = -10
"""yt-dlp's `preference` of formats that are damaged or incomplete."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What may be chosen in this conversion."""

    format: Format = Format.MP3
    """The requested format of the track. If it is a copied one, only its codec may be chosen."""
    language: Language = ORIGINAL
    """The requested language. If it is not ORIGINAL, only the audio track that fits it best may be chosen."""
    excluded: frozenset[str] = frozenset()
    """Formats (`format_id`) that could not be decoded in an earlier try."""
    is_post_live: bool = False
    """A stream that has just ended: only formats that hold all of it."""
    seconds: float | None = None
    """Announced duration of the video."""


def candidates(formats: Iterable[Mapping[str, Any]], wanted: Wanted) -> list[Mapping[str, Any]]:
    """Return the formats that may be downloaded, in the order in which they were given.

    For a copied track (M4A, Opus), these are only the formats of the wanted language with the codec of the track. A
    track in another language is not taken instead, even if the wanted one exists in another codec only.
    """
    allowed = [
        each
        for each in formats
        if each.get("acodec") != "none"
        and _protocol(each) in _PROTOCOLS
        and (not wanted.is_post_live or _is_whole(each, wanted.seconds))
    ]
    if wanted.language != ORIGINAL:
        allowed = _in_language(allowed, wanted.language)
    if (codec := _COPIED_CODECS.get(wanted.format)) is not None:
        original = max(map(_language, allowed), default=0)
        allowed = [each for each in allowed if _language(each) == original and _has_codec(each, codec)]
    return [each for each in allowed if str(each.get("format_id")) not in wanted.excluded]


def _in_language(formats: Iterable[Mapping[str, Any]], wanted: Language) -> list[Mapping[str, Any]]:
    """Return the formats of the one audio track that fits the wanted language best; none if no track does."""
    tracks = [(each, tag_of_track(each.get("language"))) for each in formats]
    fitting = [(-closeness(wanted, tag), -_language(each), tag or "") for each, tag in tracks if closeness(wanted, tag)]
    # Among tracks that fit equally well, the original comes first, then the order of the alphabet.
    best = min(fitting, default=None)
    return [each for each, tag in tracks if best is not None and tag == best[2]]


def best_of(formats: Sequence[Mapping[str, Any]], wanted: Wanted) -> Mapping[str, Any] | None:
    """Return the best format, None if there is none. `formats` is in yt-dlp's order of quality, the best one last."""
    allowed = candidates(formats, wanted)
    if not allowed:
        return None
    return max(enumerate(allowed), key=lambda entry: (*_rank(entry[1]), entry[0]))[1]


def _rank(each: Mapping[str, Any]) -> tuple[float, ...]:
    is_alone = each.get("vcodec") == "none"
    return (
        (each.get("preference") or 0) > _DAMAGED,
        _language(each),
        not str(each.get("acodec") or "").startswith(_HARD_CODECS),
        (each.get("audio_channels") or 2) <= 2,
        not str(each.get("format_id")).endswith("-drc"),
        is_alone,
        _PROTOCOLS.index(_protocol(each)),
    )


def _language(each: Mapping[str, Any]) -> int:
    language = each.get("language_preference")
    return language if isinstance(language, int) else -1


def _has_codec(each: Mapping[str, Any], codec: str) -> bool:
    """Whether a format has this codec. YouTube's HLS has AAC, and the playlist does not always say so."""
    name = each.get("acodec")
    if name is None and _protocol(each) == "m3u8_native":
        return codec == _COPIED_CODECS[Format.M4A]
    return str(name).startswith(codec)


def _protocol(each: Mapping[str, Any]) -> str:
    # Before yt-dlp has chosen, plain files do not name their protocol yet.
    return str(each.get("protocol") or "https")


def _is_whole(each: Mapping[str, Any], seconds: float | None) -> bool:
    if each.get("is_from_start") or not seconds:
        return False
    if _protocol(each) == "https":
        return bool(each.get("filesize"))
    return _protocol(each) == "http_dash_segments" and seconds <= WHOLE_SEGMENTS_SECONDS


def track_seconds(each: Mapping[str, Any]) -> float | None:
    """Return the announced duration of a format's own track, None if it is not known.

    yt-dlp does not pass on YouTube's `approxDurationMs`, but its estimated size: rate (kbit/s) times duration.
    """
    size, rate = each.get("filesize_approx"), each.get("tbr")
    if not isinstance(size, int | float) or not isinstance(rate, int | float) or size <= 0 or rate <= 0:
        return None
    return float(size) * 8 / 1000 / rate
