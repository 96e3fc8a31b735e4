"""Recipes: the requested format, quality, part, language and loudness of an output, in one canonical spelling.

The rule: all facts that depend on the format are here. To add a format, add a member to `Format`, its row to `_FACTS`,
and what `converter/audio/ffmpeg` needs to know about it.

A spelling is the last part of a conversion's key, and is therefore stored with each record. Its grammar:

    recipe  = format [ "-" quality ] *( "," option )
    option  = name "=" value        in the order start, end, language, loudness

The default recipe is spelled `mp3-192k`. A format that is copied has no quality: its recipe is spelled `m4a`. An option
with its default value is left out. So a new option does not change the spelling, and the key, of any recipe that exists
already. `start` and `end` are milliseconds: `mp3-192k,start=61500,end=90000,language=de` has three options.
"""

import functools
import re
from enum import StrEnum
from typing import Final

from msgspec import Struct, structs

from ytmp3.core.cut import WHOLE, Cut
from ytmp3.core.ids import ConversionKey, VideoId
from ytmp3.core.language import ORIGINAL, Language, parse_language
from ytmp3.core.loudness import Loudness, LoudnessMode, parse_loudness, spelling_of


class Format(StrEnum):
    """The container and codec of a track."""

    MP3 = "mp3"
    M4A = "m4a"
    """AAC in an MP4 file. The sound is copied from YouTube's own stream, not encoded again."""
    OPUS = "opus"
    """Opus in an Ogg file, copied too."""


class Quality(StrEnum):
    """The quality of an MP3: a constant bit rate in kbit/s, or a preset of LAME's variable bit rate (V0 is best)."""

    K96 = "96k"
    K128 = "128k"
    K160 = "160k"
    K192 = "192k"
    K256 = "256k"
    K320 = "320k"
    V0 = "V0"
    V2 = "V2"
    V5 = "V5"


class FormatFacts(Struct, frozen=True, kw_only=True):
    """The facts about a format that other modules need."""

    extension: str
    """The extension of track files, of download URLs and of saved downloads, without the dot."""
    media_type: str
    """The Content-Type of a download (IANA's registry)."""
    is_copied: bool
    """Whether the sound is copied from YouTube's own stream. Such a format has no quality to choose."""


_FACTS: Final[dict[Format, FormatFacts]] = {
    Format.MP3: FormatFacts(extension="mp3", media_type="audio/mpeg", is_copied=False),
    Format.M4A: FormatFacts(extension="m4a", media_type="audio/mp4", is_copied=True),
    Format.OPUS: FormatFacts(extension="opus", media_type="audio/ogg", is_copied=True),
}

EXTENSIONS: Final = frozenset(facts.extension for facts in _FACTS.values())
"""The extensions that a track may have."""
MEDIA_TYPES: Final = tuple(facts.media_type for facts in _FACTS.values())
"""The media types that a download may have."""

DEFAULT_QUALITY: Final = Quality.K192

_FORMATS: Final = {format_.value: format_ for format_ in Format}
_QUALITIES: Final = {quality.lower(): quality for quality in Quality}
_QUALITY_WITHOUT_UNIT: Final = {quality.removesuffix("k"): quality for quality in Quality}


def parse_quality(value: object) -> Quality | None:
    """Return the quality for a value from a client, or None if it is not a quality: the caller refuses it.

    Besides "192k", the values 192, "192", "192K", "v0" and " 192k " are accepted too.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip().lower()
    return _QUALITIES.get(text) or _QUALITY_WITHOUT_UNIT.get(text)


def parse_format(value: object) -> Format | None:
    """Return the format for a value from a client, or None if it is not a format: the caller refuses it.

    Besides "m4a", the values "M4A", ".m4a" and " m4a " are accepted too.
    """
    return _FORMATS.get(value.strip().lower().removeprefix(".")) if isinstance(value, str) else None


def has_quality(format_: Format) -> bool:
    """Return whether a quality can be chosen for this format."""
    return not _FACTS[format_].is_copied


class Recipe(Struct, frozen=True, kw_only=True):
    """The requested output of a conversion. Requests for one video with equal recipes share one conversion."""

    format: Format = Format.MP3
    quality: Quality | None = DEFAULT_QUALITY
    """None if and only if the format is copied. `recipe_for` makes both fields fit."""
    cut: Cut = WHOLE
    """The part of the video. See `misfit` for the formats that can be cut."""
    language: Language = ORIGINAL
    """Which of the video's audio tracks is converted."""
    loudness: Loudness = LoudnessMode.OFF
    """What is done about the loudness. See `misfit` for the formats that can have a target."""

    @property
    def spelling(self) -> str:
        """The canonical spelling. `parse_recipe` reads it back."""
        sound = self.format if self.quality is None else f"{self.format}-{self.quality.lower()}"
        options = {
            "start": self.cut.start_ms or None,
            "end": self.cut.end_ms,
            "language": None if self.language == ORIGINAL else self.language,
            "loudness": None if self.loudness is LoudnessMode.OFF else spelling_of(self.loudness),
        }
        return ",".join((sound, *(f"{name}={value}" for name, value in options.items() if value is not None)))

    @property
    def misfit(self) -> str | None:
        """The name of the field that does not fit the others; None if the recipe can be made.

        Only an MP3 can be cut to the sample, and has a field for the gain in each frame.
        """
        if not self.cut.is_long_enough:
            return "end"
        if self.is_copied and not self.cut.is_whole:
            return "start" if self.cut.start_ms else "end"
        return "loudness" if self.is_copied and not isinstance(self.loudness, LoudnessMode) else None

    @property
    def is_measured(self) -> bool:
        """Whether the loudness is measured."""
        return self.loudness is not LoudnessMode.OFF

    @property
    def is_copied(self) -> bool:
        """Whether the sound is copied from YouTube's own stream, not encoded again."""
        return _FACTS[self.format].is_copied

    @property
    def extension(self) -> str:
        """The extension of a track's file, without the dot."""
        return _FACTS[self.format].extension

    @property
    def media_type(self) -> str:
        """The Content-Type of a track."""
        return _FACTS[self.format].media_type


def recipe_for(
    format_: Format,
    quality: Quality | None = None,
    *,
    cut: Cut = WHOLE,
    language: Language = ORIGINAL,
    loudness: Loudness = LoudnessMode.OFF,
) -> Recipe:
    """Return the recipe for a format. Without a quality, it is the default one; a copied format ignores the quality."""
    given = (quality or DEFAULT_QUALITY) if has_quality(format_) else None
    return Recipe(format=format_, quality=given, cut=cut, language=language, loudness=loudness)


DEFAULT_RECIPE: Final = Recipe()
_WITHOUT_OPTIONS: Final = {
    recipe.spelling: recipe for recipe in (recipe_for(one, quality) for one in Format for quality in Quality)
}
"""All recipes without options, by spelling."""
REMEMBERED_RECIPES: Final = 4096
"""Most parsed recipes that are kept: the stores parse one for every record that they read. They take 1 MB."""
_MILLISECONDS: Final = re.compile("[0-9]{1,9}", re.ASCII)


@functools.lru_cache(maxsize=REMEMBERED_RECIPES)
def parse_recipe(spelling: str) -> Recipe:
    """Return the recipe with this canonical spelling.

    Raises:
        ValueError: this version does not know the spelling. A newer version of the service may have written it.
    """
    sound, *options = spelling.split(",")
    recipe = _WITHOUT_OPTIONS.get(sound)
    for option in options:
        name, _, value = option.partition("=")
        recipe = None if recipe is None else _with_option(recipe, name, value)
    # Each recipe has one spelling: this also refuses another order, and another spelling of a value.
    if recipe is None or recipe.spelling != spelling or recipe.misfit is not None:
        raise ValueError(f"not a recipe that this version knows: {spelling!r}")
    return recipe


def _with_option(recipe: Recipe, name: str, value: str) -> Recipe | None:
    """Return the recipe with another value of an option, or None if there is no such option or value."""
    match name:
        case "start" if _MILLISECONDS.fullmatch(value):
            return structs.replace(recipe, cut=structs.replace(recipe.cut, start_ms=int(value)))
        case "end" if _MILLISECONDS.fullmatch(value):
            return structs.replace(recipe, cut=structs.replace(recipe.cut, end_ms=int(value)))
        case "language" if (language := parse_language(value)) is not None:
            return structs.replace(recipe, language=language)
        case "loudness" if (loudness := parse_loudness(value)) is not None:
            return structs.replace(recipe, loudness=loudness)
    return None


def conversion_key(video_id: VideoId, recipe: Recipe) -> ConversionKey:
    """Return the deduplication key: equal for every spelling of a link, different for each recipe."""
    return ConversionKey(f"youtube:{video_id}:{recipe.spelling}")


def recipe_of(key: ConversionKey) -> Recipe:
    """Return the recipe that a key ends with.

    Raises:
        ValueError: see `parse_recipe`.
    """
    return parse_recipe(key.rpartition(":")[2])
