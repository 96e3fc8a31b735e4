"""Recipes: one canonical spelling, read back as it was written."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.values import KEY, VIDEO_ID
from ytmp3.core.cut import Cut
from ytmp3.core.ids import VideoId
from ytmp3.core.language import Language
from ytmp3.core.loudness import LoudnessMode
from ytmp3.core.recipe import (
    DEFAULT_RECIPE,
    EXTENSIONS,
    MEDIA_TYPES,
    Format,
    Quality,
    Recipe,
    conversion_key,
    has_quality,
    parse_format,
    parse_quality,
    parse_recipe,
    recipe_for,
    recipe_of,
)

LANGUAGES = [Language(tag) for tag in ("original", "de", "zh-Hant-TW")]
RECIPES = list(
    {
        recipe_for(one, quality, language=language)
        for one, quality, language in itertools.product(Format, Quality, LANGUAGES)
    }
)
RECIPES.sort(key=lambda recipe: recipe.spelling)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.spelling)
def test_every_recipe_is_read_back_from_its_spelling_and_from_its_key(recipe: Recipe) -> None:
    assert parse_recipe(recipe.spelling) == recipe
    assert recipe_of(conversion_key(VideoId("dQw4w9WgXcQ"), recipe)) == recipe


def test_no_two_recipes_have_the_same_spelling() -> None:
    assert len({recipe.spelling for recipe in RECIPES}) == len(RECIPES)


def test_the_default_recipe_is_an_mp3_of_192_kbit() -> None:
    assert DEFAULT_RECIPE.spelling == "mp3-192k"
    assert (DEFAULT_RECIPE.extension, DEFAULT_RECIPE.media_type) == ("mp3", "audio/mpeg")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.spelling)
def test_extension_and_media_type_are_in_the_lists_of_all(recipe: Recipe) -> None:
    assert recipe.extension in EXTENSIONS
    assert recipe.media_type in MEDIA_TYPES


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        "mp3",
        "m4a-192k",
        "opus-v0",
        "m4a-",
        "M4A",
        "ogg",
        "mp3-",
        "-192k",
        "mp3-193k",
        "MP3-192k",
        "mp3-192K",
        "flac-192k",
        "mp3-192k,",
        "mp3-192k,start",
        "mp3-192k,start=",
        "mp3-192k,start=0",
        "mp3-192k,start=05",
        "mp3-192k,start=1.5",
        "mp3-192k,start=1:30",
        "mp3-192k,start=-5",
        "mp3-192k,start=1000000000",
        "mp3-192k,end=0",
        "mp3-192k,end=2000,start=1000",
        "mp3-192k,start=2000,end=1000",
        "mp3-192k,start=1000,start=1000",
        "mp3-192k,start=1000,start=2000",
        "m4a,start=1000",
        "flac,start=1000",
        "mp3-192k,language",
        "mp3-192k,language=",
        "mp3-192k,language=original",
        "mp3-192k,language=DE",
        "mp3-192k,language=iw",
        "mp3-192k,language=english",
        "mp3-192k,language=de,language=de",
        "mp3-192k,tempo=2",
        "mp3-192k,loudness=off",
        "mp3-192k,loudness=-14.0",
        "mp3-192k,loudness=-3",
        "opus,loudness=-14",
        "mp3-192k,language=de,start=1000",
        "language=de",
        "ogg,language=de",
    ],
)
def test_an_unknown_spelling_is_refused(spelling: str) -> None:
    with pytest.raises(ValueError, match="not a recipe that this version knows"):
        parse_recipe(spelling)


def test_a_language_is_part_of_the_spelling_unless_it_is_the_original() -> None:
    german = Language("de")
    assert recipe_for(Format.MP3, language=german).spelling == "mp3-192k,language=de"
    assert recipe_for(Format.OPUS, language=german).spelling == "opus,language=de"


def test_a_copied_format_has_one_recipe_without_a_quality() -> None:
    for format_, spelling in ((Format.M4A, "m4a"), (Format.OPUS, "opus")):
        assert not has_quality(format_)
        assert {recipe_for(format_, quality) for quality in (None, *Quality)} == {parse_recipe(spelling)}
        assert parse_recipe(spelling).quality is None
        assert parse_recipe(spelling).is_copied


def test_an_mp3_has_the_default_quality_unless_another_one_is_given() -> None:
    assert has_quality(Format.MP3)
    assert not DEFAULT_RECIPE.is_copied
    assert recipe_for(Format.MP3) == DEFAULT_RECIPE
    assert recipe_for(Format.MP3, Quality.V0) == Recipe(quality=Quality.V0)


@pytest.mark.parametrize("format_", list(Format))
def test_a_format_is_understood_in_any_case_with_or_without_a_dot(format_: Format) -> None:
    spellings = {format_, format_.upper(), f".{format_}", f" {format_}\n"}
    assert {parse_format(spelling) for spelling in spellings} == {format_}


@pytest.mark.parametrize("value", ["", ".", "..mp3", "mp4", "aac", "flac", "m4a-192k", 3, True, None, ["mp3"], {}])
def test_anything_else_is_no_format(value: object) -> None:
    assert parse_format(value) is None


def test_each_recipe_of_a_video_has_a_key_of_its_own() -> None:
    keys = {conversion_key(VIDEO_ID, Recipe(quality=quality)) for quality in Quality}
    assert len(keys) == len(Quality)
    assert conversion_key(VIDEO_ID, DEFAULT_RECIPE) == KEY


@pytest.mark.parametrize("quality", list(Quality))
def test_a_quality_is_understood_in_any_case_with_or_without_its_unit(quality: Quality) -> None:
    spellings = {quality, quality.lower(), quality.upper(), f" {quality}\n", quality.removesuffix("k")}
    assert {parse_quality(spelling) for spelling in spellings} == {quality}


def test_a_bit_rate_may_be_a_number() -> None:
    assert parse_quality(320) is Quality.K320


@pytest.mark.parametrize(
    "value", ["", "best", "193", "192kk", "k", "V1", 0, -192, 10**30, True, None, 192.0, [], "١٩٢"]
)
def test_anything_else_is_no_quality(value: object) -> None:
    assert parse_quality(value) is None


positions = st.integers(0, 359_000_000)
cuts = st.builds(
    lambda start, length: Cut(start_ms=start, end_ms=None if length is None else start + length),
    positions,
    st.none() | st.integers(100, 999_999),
)
targets = st.integers(-300, -50).map(lambda tenths: tenths / 10)
recipes = st.builds(
    recipe_for,
    st.just(Format.MP3),
    st.sampled_from(Quality),
    cut=cuts,
    loudness=st.sampled_from(LoudnessMode) | targets,
) | st.builds(recipe_for, st.sampled_from([Format.M4A, Format.OPUS]), loudness=st.sampled_from(LoudnessMode))


@given(recipes, recipes)
def test_a_recipe_with_options_has_one_spelling_and_one_key(recipe: Recipe, other: Recipe) -> None:
    assert recipe.misfit is None
    assert parse_recipe(recipe.spelling) == recipe
    assert recipe_of(conversion_key(VIDEO_ID, recipe)) == recipe
    assert (recipe == other) is (recipe.spelling == other.spelling)


@given(recipes, st.data())
def test_a_changed_spelling_is_refused_or_that_of_another_recipe(recipe: Recipe, data: st.DataObject) -> None:
    spelling = recipe.spelling
    position = data.draw(st.integers(0, len(spelling)))
    changed = spelling[:position] + data.draw(st.sampled_from(",=-.05mk ")) + spelling[position + 1 :]
    try:
        read = parse_recipe(changed)
    except ValueError:
        return
    assert read.spelling == changed
    assert (read == recipe) is (changed == spelling)


def test_options_have_an_order_and_no_default_is_spelled() -> None:
    recipe = recipe_for(
        Format.MP3, Quality.V0, cut=Cut(start_ms=61_500, end_ms=90_000), language=Language("de"), loudness=-14.0
    )
    assert recipe.spelling == "mp3-v0,start=61500,end=90000,language=de,loudness=-14"
    assert recipe_for(Format.OPUS, loudness=LoudnessMode.TAGS).spelling == "opus,loudness=tags"
    assert recipe_for(Format.MP3, cut=Cut(), loudness=LoudnessMode.OFF).spelling == "mp3-192k"


def test_a_recipe_names_the_field_that_does_not_fit() -> None:
    for recipe, field in (
        (recipe_for(Format.MP3, cut=Cut(start_ms=2000, end_ms=1000)), "end"),
        (recipe_for(Format.M4A, cut=Cut(start_ms=2000)), "start"),
        (recipe_for(Format.OPUS, cut=Cut(end_ms=2000)), "end"),
        (recipe_for(Format.OPUS, loudness=-14.0), "loudness"),
        (recipe_for(Format.MP3, cut=Cut(start_ms=2000), loudness=-14.0), None),
    ):
        assert recipe.misfit == field
