"""The JSON bodies of requests, as types. `wire` has those of responses; `body` reads and checks a body."""

import re
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType, json

from ytmp3.core.batch import Line
from ytmp3.core.cut import MAX_POSITION_SECONDS, POSITION_PATTERN, Cut, parse_position
from ytmp3.core.language import LANGUAGE_PATTERN, MAX_CHARACTERS, ORIGINAL, parse_language
from ytmp3.core.link import parse_link
from ytmp3.core.loudness import LOUDNESS_PATTERN, MAX_TARGET, MIN_TARGET, LoudnessMode, parse_loudness
from ytmp3.core.recipe import DEFAULT_QUALITY, Format, Quality, Recipe, has_quality, recipe_for
from ytmp3.core.spellings import in_any_case, one_of
from ytmp3.core.tag_edits import (
    MAX_TEXT_CHARACTERS,
    MAX_TRACK_NUMBER,
    NO_BATCH_TAGS,
    NO_EDITS,
    BatchTags,
    TagEdits,
    clean_text,
)
from ytmp3.http.errors import InvalidField

OF_LINK: Final = "link"
"""The value of `start` for the time in the link (`t=`)."""
_OF_LINK_PATTERN: Final = one_of((in_any_case(OF_LINK),))
_IS_OF_LINK: Final = re.compile(_OF_LINK_PATTERN).fullmatch

GivenQuality = Annotated[Quality, Meta(extra_json_schema={"default": DEFAULT_QUALITY})]
"""Whether a quality was given must be known, so it has no default value for the decoder."""
_Seconds = Annotated[float, Meta(ge=0, lt=MAX_POSITION_SECONDS)]
Position = _Seconds | Annotated[str, Meta(pattern=POSITION_PATTERN)] | None
"""A position in the video; None for its beginning or end."""
PositionOrLink = _Seconds | Annotated[str, Meta(pattern=f"{POSITION_PATTERN}|{_OF_LINK_PATTERN}")] | None

GivenLoudness = Annotated[float, Meta(ge=MIN_TARGET, le=MAX_TARGET)] | Annotated[str, Meta(pattern=LOUDNESS_PATTERN)]
GivenLanguage = Annotated[str, Meta(pattern=LANGUAGE_PATTERN, max_length=MAX_CHARACTERS)]


class MisfitError(ValueError):
    """Each field is valid by itself, but they cannot be combined. `field` is the one to change."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} does not fit the other fields")
        self.field = field


TrackNumber = Annotated[int, Meta(ge=1, le=MAX_TRACK_NUMBER)]
TagText = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARACTERS)]
"""A text for the tags. `clean_text` refuses some characters besides."""


class MetadataRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tags of the track of one job. A field that is missing or null leaves its tag unchanged.

    `track_total` needs a `track_number`, which is not larger.
    """

    title: TagText | None = None
    artist: TagText | None = None
    album: TagText | None = None
    cover: bool | None = None
    track_number: TrackNumber | None = None
    track_total: TrackNumber | None = None

    def __post_init__(self) -> None:
        """Refuse texts with forbidden characters. The decoder turns the ValueError into a ValidationError."""
        _ = self.edits

    @property
    def edits(self) -> TagEdits | None:
        """The edits; None if there are none.

        Raises:
            ValueError: a text has a forbidden character, or the number and the total do not fit together.
        """
        if self.track_total is not None and (self.track_number is None or self.track_number > self.track_total):
            raise ValueError("track_total")
        edits = TagEdits(
            title=_clean(self.title),
            artist=_clean(self.artist),
            album=_clean(self.album),
            cover=self.cover is not False,
            track_number=self.track_number,
            track_total=self.track_total,
        )
        return None if edits == NO_EDITS else edits


class BatchMetadataRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tags of all tracks of a batch. `track_numbers`: each gets its position in the batch as track number."""

    artist: TagText | None = None
    album: TagText | None = None
    cover: bool | None = None
    track_numbers: bool | None = None

    def __post_init__(self) -> None:
        """Refuse texts with forbidden characters. The decoder turns the ValueError into a ValidationError."""
        _ = self.tags

    @property
    def tags(self) -> BatchTags | None:
        """The tags; None if there are none.

        Raises:
            ValueError: a text has a forbidden character.
        """
        tags = BatchTags(
            artist=_clean(self.artist),
            album=_clean(self.album),
            cover=self.cover is not False,
            track_numbers=bool(self.track_numbers),
        )
        return None if tags == NO_BATCH_TAGS else tags


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


class ExtractRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /extract`."""

    url: str
    quality: GivenQuality | UnsetType = UNSET
    format: Format = Format.MP3
    start: PositionOrLink = None
    end: Position = None
    language: GivenLanguage = ORIGINAL
    loudness: GivenLoudness = LoudnessMode.OFF.value
    metadata: MetadataRequest | None = None
    webhook: str | None = None

    def __post_init__(self) -> None:
        """Refuse fields that cannot be combined. The decoder turns the ValueError into a ValidationError."""
        _check(self)

    @property
    def recipe(self) -> Recipe:
        """The requested output.

        Raises:
            InvalidField: the start is that of the link, which has none, or one that does not fit the end.
            UnsupportedUrl, NotAVideo: the start is that of the link, and it is no link to a video.
        """
        if not _is_of_link(self.start):
            return _recipe(self)
        start = parse_link(self.url).start_ms
        if start is None:
            raise InvalidField("`start` is `link`, but `url` has no time such as `t=90`.", field="start")
        recipe = _recipe(self, start)
        if recipe.misfit is not None:
            raise InvalidField(TEXT_OF_MISFIT[recipe.misfit], field=recipe.misfit)
        return recipe

    @property
    def edits(self) -> TagEdits | None:
        """The tags that the client has chosen; None if it has chosen none."""
        return None if self.metadata is None else self.metadata.edits

    @property
    def fingerprint(self) -> bytes:
        """What makes two requests the same. A field with its default value is the same as a missing one.

        A request that an older version also accepts has the same fingerprint in both versions, because instances of
        different versions may share one store.
        """
        known = (self.url, self.recipe.spelling, self.webhook)
        return json.encode(known if self.edits is None else (*known, self.edits))


class ProbeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /probe`."""

    url: str


class LinkRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A link in `urls`, with tags for its track."""

    url: str
    metadata: MetadataRequest | None = None


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /batches`: links to videos, a playlist, or a video to be split; and one recipe for all.

    `chapters` is a link to a video each chapter of which becomes a track. Lines of `urls` that are no links to videos
    are reported item by item.
    """

    urls: Annotated[tuple[str | LinkRequest, ...], Meta(min_length=1)] | None = None
    playlist: str | None = None
    chapters: str | None = None
    quality: GivenQuality | UnsetType = UNSET
    format: Format = Format.MP3
    start: Position = None
    end: Position = None
    language: GivenLanguage = ORIGINAL
    loudness: GivenLoudness = LoudnessMode.OFF.value
    metadata: BatchMetadataRequest | None = None
    webhook: str | None = None

    def __post_init__(self) -> None:
        """Refuse fields that cannot be combined. The decoder turns the ValueError into a ValidationError."""
        _check(self)
        if self.chapters is not None and not has_quality(self.format):
            raise MisfitError("chapters")
        if self.chapters is not None and not self.recipe.cut.is_whole:
            raise MisfitError("chapters")

    @property
    def recipe(self) -> Recipe:
        """The requested output."""
        return _recipe(self)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The links with their tags."""
        return tuple(
            Line(link=each)
            if isinstance(each, str)
            else Line(link=each.url, edits=None if each.metadata is None else each.metadata.edits)
            for each in self.urls or ()
        )

    @property
    def tags(self) -> BatchTags | None:
        """The tags for all tracks; None if the client has chosen none."""
        return None if self.metadata is None else self.metadata.tags

    @property
    def fingerprint(self) -> bytes:
        """What makes two requests the same; see `ExtractRequest`."""
        urls = None if self.urls is None else [line.link if line.edits is None else line for line in self.lines]
        known = (urls, self.playlist, self.recipe.spelling, self.webhook)
        more = () if self.chapters is None and self.tags is None else (self.chapters, self.tags)
        return json.encode((*known, *more))


NO_QUALITY: Final = (
    "`quality` can be chosen for mp3 only: leave it out. The sound of m4a and opus is copied from YouTube unchanged."
)
_NO_CUT: Final = "can be chosen for mp3 only. The sound of m4a and opus is copied from YouTube whole."
TEXT_OF_MISFIT: Final = {
    "quality": NO_QUALITY,
    "start": f"`start` {_NO_CUT}",
    "end": f"`end` must be at least 0.1 s after `start`, and {_NO_CUT}",
    "chapters": "`chapters` needs the format mp3, and neither `start` nor `end`: each track is one chapter.",
    "loudness": "`loudness` can be a target such as -14 for mp3 only. For m4a and opus, it can be off or tags.",
}


def _check(request: ExtractRequest | BatchRequest) -> None:
    """Refuse fields that do not fit together: raises MisfitError."""
    if request.quality is not UNSET and not has_quality(request.format):
        raise MisfitError("quality")
    # The time of the link is not known here, and `recipe` checks it.
    if (misfit := _recipe(request).misfit) is not None:
        raise MisfitError(misfit)
    if _is_of_link(request.start) and not has_quality(request.format):
        raise MisfitError("start")


def _is_of_link(start: float | str | None) -> bool:
    return isinstance(start, str) and _IS_OF_LINK(start) is not None


def _recipe(request: ExtractRequest | BatchRequest, start_of_link: int = 0) -> Recipe:
    quality = None if request.quality is UNSET else request.quality
    start = start_of_link if _is_of_link(request.start) else parse_position(request.start)
    return recipe_for(
        request.format,
        quality,
        cut=Cut(start_ms=start or 0, end_ms=parse_position(request.end)),
        language=parse_language(request.language) or ORIGINAL,
        loudness=parse_loudness(request.loudness) or LoudnessMode.OFF,
    )
