"""The JSON of the response to `POST /probe`, as types, and the function that makes it. Pure."""

from msgspec import Struct

from ytmp3.core.description import AudioTrack, Description, estimated_bytes, kbps_of
from ytmp3.core.ids import VideoId
from ytmp3.core.link import canonical_link
from ytmp3.core.recipe import Format, Quality, has_quality
from ytmp3.http.view import metadata_view
from ytmp3.http.wire import MetadataView


class LanguageView(Struct, frozen=True, kw_only=True):
    """An audio track that `language` can name, with the formats in which its sound can be delivered."""

    language: str
    is_original: bool
    formats: tuple[Format, ...]


class FormatView(Struct, frozen=True, kw_only=True):
    """A format and quality in which the original sound can be delivered. Bit rate and size are estimates."""

    format: Format
    quality: Quality | None
    bitrate_kbps: float | None
    size_bytes: int | None


class ProbeView(Struct, frozen=True, kw_only=True):
    """The body of `POST /probe`. `languages` is empty if YouTube does not say in which language the sound is."""

    url: str
    video_id: str
    metadata: MetadataView
    languages: tuple[LanguageView, ...]
    formats: tuple[FormatView, ...]


def probe_view(video_id: VideoId, description: Description) -> ProbeView:
    """Return a description as clients see it."""
    return ProbeView(
        url=canonical_link(video_id),
        video_id=video_id,
        metadata=metadata_view(description.metadata),
        languages=tuple(
            LanguageView(language=track.language, is_original=track.is_original, formats=_formats_of(track))
            for track in description.languages
            if track.language is not None
        ),
        formats=(*_encoded(description.metadata.duration_seconds), *_copied(description.original)),
    )


def _formats_of(track: AudioTrack) -> tuple[Format, ...]:
    copied = {copy.format for copy in track.copies}
    return tuple(format_ for format_ in Format if has_quality(format_) or format_ in copied)


def _encoded(duration_seconds: float | None) -> list[FormatView]:
    return [
        FormatView(
            format=format_,
            quality=quality,
            bitrate_kbps=kbps_of(quality),
            size_bytes=estimated_bytes(kbps_of(quality), duration_seconds),
        )
        for format_ in Format
        if has_quality(format_)
        for quality in Quality
    ]


def _copied(track: AudioTrack) -> list[FormatView]:
    return [
        FormatView(format=copy.format, quality=None, bitrate_kbps=copy.bitrate_kbps, size_bytes=copy.size_bytes)
        for copy in track.copies
    ]
