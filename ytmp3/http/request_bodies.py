"""The JSON bodies of requests, as types. `wire` has those of responses; `body` reads and checks a body."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, json

from ytmp3.core.language import MAX_CHARACTERS, ORIGINAL, PATTERN, parse_language
from ytmp3.core.recipe import DEFAULT_QUALITY, Format, Quality, Recipe, has_quality, recipe_for

GivenQuality = Annotated[Quality, Meta(extra_json_schema={"default": DEFAULT_QUALITY})]
"""Whether a quality was given must be known, so it has no default value for the decoder."""

GivenLanguage = Annotated[str, Meta(pattern=PATTERN, max_length=MAX_CHARACTERS)]


def check_quality(format_: Format, quality: Quality | UnsetType) -> None:
    """Refuse a quality for a format that has none: raises ValueError."""
    if quality is not UNSET and not has_quality(format_):
        raise ValueError("this format has no quality")


class ExtractRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /extract`."""

    url: str
    quality: GivenQuality | UnsetType = UNSET
    format: Format = Format.MP3
    language: GivenLanguage = ORIGINAL
    webhook: str | None = None

    def __post_init__(self) -> None:
        """Refuse what each field alone allows. The decoder makes its own error of a ValueError."""
        check_quality(self.format, self.quality)

    @property
    def recipe(self) -> Recipe:
        """The requested output."""
        return _recipe(self)

    @property
    def fingerprint(self) -> bytes:
        """What makes two requests the same. A field with its default value is the same as a missing one."""
        return json.encode((self.url, self.recipe.spelling, self.webhook))


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /batches`: either links to videos, or a link to a playlist; and one recipe for all.

    Lines of `urls` that are no links to videos are reported item by item.
    """

    urls: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    playlist: str | None = None
    quality: GivenQuality | UnsetType = UNSET
    format: Format = Format.MP3
    language: GivenLanguage = ORIGINAL
    webhook: str | None = None

    def __post_init__(self) -> None:
        """Refuse what each field alone allows. The decoder makes its own error of a ValueError."""
        check_quality(self.format, self.quality)

    @property
    def recipe(self) -> Recipe:
        """The requested output."""
        return _recipe(self)

    @property
    def fingerprint(self) -> bytes:
        """What makes two requests the same; see `ExtractRequest`."""
        return json.encode((self.urls, self.playlist, self.recipe.spelling, self.webhook))


def _recipe(request: ExtractRequest | BatchRequest) -> Recipe:
    quality = None if request.quality is UNSET else request.quality
    return recipe_for(request.format, quality, language=parse_language(request.language) or ORIGINAL)
