"""What YouTube offers for a video: languages, and the formats that a conversion could deliver. Pure.

The response to `POST /probe` is made of it. The extraction is the same as that of a conversion, but nothing is
downloaded.
"""

from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from ytmp3.core.errors import RequestError
from ytmp3.core.job import Metadata
from ytmp3.core.language import Language
from ytmp3.core.recipe import Format, Quality

MAX_LANGUAGES: Final = 50
"""Most languages of one video. YouTube dubs into about thirty."""

MEAN_KBPS: Final = MappingProxyType({Quality.V0: 245, Quality.V2: 190, Quality.V5: 130})
"""Usual bit rates of LAME's variable presets, in kbit/s, from its documentation. Single tracks differ."""


class CopiedSound(Struct, frozen=True, kw_only=True):
    """The sound that a track of a copied format would hold."""

    format: Format
    bitrate_kbps: float | None
    size_bytes: int | None
    """Announced or estimated by YouTube, in its own container; the track's size differs by about a percent."""


class AudioTrack(Struct, frozen=True, kw_only=True):
    """One audio track of a video, with the copied formats that it is offered in. Every track can become an MP3."""

    language: Language | None
    """None if YouTube does not name it, as for most videos that have a single track."""
    is_original: bool
    copies: tuple[CopiedSound, ...]


class Description(Struct, frozen=True, kw_only=True):
    """What YouTube offers for one video."""

    metadata: Metadata
    next_chapter_seconds: float | None = None
    """Where the first chapter begins that is left out of `metadata`, because there are too many; None if none is."""
    original: AudioTrack
    """The track that is converted if the client requests no language."""
    languages: tuple[AudioTrack, ...]
    """The tracks that a conversion can ask for by their language, the original first."""


class ProbeRefused(RequestError):
    """The video cannot be converted. The `reason_code` is the code with which its job would fail."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "probe_refused"
    field = "url"
    detail = "This video cannot be converted. `code` says why."


class ProbeFailed(RequestError):
    """The extraction failed, but a later one may succeed. Raised with a `reason_code`."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "probe_failed"
    detail = "The service could not read this video at YouTube. Send the request again later."


class ProbePending(RequestError):
    """The extraction takes longer than a request waits. It goes on, and a later request gets its result."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "probe_pending"
    detail = "YouTube has not responded yet. The probe goes on: send the same request again to get its result."


def estimated_bytes(kbps: float | None, duration_seconds: float | None) -> int | None:
    """Return the size of a track with this bit rate and duration; None if one of them is unknown."""
    return None if kbps is None or duration_seconds is None else round(kbps * 1000 / 8 * duration_seconds)


def kbps_of(quality: Quality) -> int:
    """Return the bit rate of an MP3 of this quality; the usual one for a variable rate."""
    return MEAN_KBPS.get(quality) or int(quality.removesuffix("k"))
