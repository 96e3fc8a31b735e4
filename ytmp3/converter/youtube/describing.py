"""Finds out what YouTube offers for a video, in a forked child process. Nothing is downloaded."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from yt_dlp.networking.exceptions import RequestError
from yt_dlp.utils import YoutubeDLError

from ytmp3.converter.youtube.choice import ORIGINAL_PREFERENCE, Wanted, best_of, candidates
from ytmp3.converter.youtube.connecting import Route
from ytmp3.converter.youtube.downloader import Downloader
from ytmp3.converter.youtube.events import Described, DescribeTask, Event, Failed
from ytmp3.converter.youtube.extractor import Extractor, RefusedError, shown
from ytmp3.converter.youtube.metadata import clean_metadata, next_chapter_seconds
from ytmp3.core.description import MAX_LANGUAGES, AudioTrack, CopiedSound, Description
from ytmp3.core.language import ORIGINAL, Language, tag_of_track
from ytmp3.core.recipe import Format, has_quality

MAX_KBPS: Final = 10_000.0
"""Highest bit rate of a sound that is passed on, in kbit/s: more than any codec that YouTube uses has."""
MAX_BYTES: Final = 10**12
_COPIED: Final = tuple(each for each in Format if not has_quality(each))


def describe(downloader: Downloader, task: DescribeTask, emit: Callable[[Event], None], route: Route) -> int:
    """Extract the video as a conversion does, and emit what it offers, or the failure. Returns the exit status."""
    extractor = Extractor(downloader, task.extraction, route.forget)
    try:
        video = extractor.extract()
    except (RefusedError, YoutubeDLError, RequestError) as error:
        code, _ = extractor.code_of(error)
        emit(Failed(code=code.value, reason=shown(str(error)), facts=extractor.facts()))
        return 1
    emit(Described(description=description_of(video), facts=extractor.facts()))
    return 0


def description_of(video: Mapping[str, Any]) -> Description:
    """Return what a conversion of an extracted video could deliver. Its formats are in yt-dlp's order of quality."""
    formats: Sequence[Mapping[str, Any]] = video.get("formats") or ()
    tracks = [(each, tag_of_track(each.get("language"))) for each in candidates(formats, Wanted())]
    originals = {tag for each, tag in tracks if each.get("language_preference") == ORIGINAL_PREFERENCE}
    tags = sorted({tag for _, tag in tracks if tag is not None}, key=lambda tag: (tag not in originals, tag))
    chosen = best_of(formats, Wanted())
    return Description(
        metadata=clean_metadata(video),
        next_chapter_seconds=next_chapter_seconds(video),
        original=AudioTrack(
            language=None if chosen is None else tag_of_track(chosen.get("language")),
            is_original=True,
            copies=_copies(formats, ORIGINAL),
        ),
        languages=tuple(
            AudioTrack(language=tag, is_original=tag in originals, copies=_copies(formats, tag))
            for tag in tags[:MAX_LANGUAGES]
        ),
    )


def _copies(formats: Sequence[Mapping[str, Any]], language: Language) -> tuple[CopiedSound, ...]:
    found = []
    for format_ in _COPIED:
        best = best_of(formats, Wanted(format=format_, language=language))
        if best is not None:
            kbps = _number(best.get("abr"), MAX_KBPS) or _number(best.get("tbr"), MAX_KBPS)
            size = _number(best.get("filesize"), MAX_BYTES) or _number(best.get("filesize_approx"), MAX_BYTES)
            is_alone = best.get("vcodec") == "none"
            # The size of a format with a picture says nothing about its sound.
            found.append(
                CopiedSound(
                    format=format_,
                    bitrate_kbps=None if kbps is None else round(kbps, 1),
                    size_bytes=None if size is None or not is_alone else int(size),
                )
            )
    return tuple(found)


def _number(value: object, maximum: float) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if isinstance(value, int | float) and is_number and 0 < value <= maximum else None
