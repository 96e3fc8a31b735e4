"""Recipes: one canonical spelling, read back as it was written."""

import itertools

import pytest

from tests.core.values import KEY, VIDEO_ID
from ytmp3.core.ids import VideoId
from ytmp3.core.recipe import (
    DEFAULT_RECIPE,
    EXTENSIONS,
    MEDIA_TYPES,
    Format,
    Quality,
    Recipe,
    conversion_key,
    parse_quality,
    parse_recipe,
    recipe_of,
)

RECIPES = [Recipe(format=one, quality=quality) for one, quality in itertools.product(Format, Quality)]


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


@pytest.mark.parametrize("spelling", ["", "mp3", "mp3-", "-192k", "mp3-193k", "MP3-192k", "mp3-192K", "flac-192k"])
def test_an_unknown_spelling_is_refused(spelling: str) -> None:
    with pytest.raises(ValueError, match="not a recipe that this version knows"):
        parse_recipe(spelling)


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
