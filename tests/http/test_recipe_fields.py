"""The fields of a request that make its recipe: its spellings have one key, and a wrong field is named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.cut import parse_position
from ytmp3.core.errors import RequestError
from ytmp3.core.loudness import parse_loudness
from ytmp3.core.recipe import Quality, Recipe, parse_recipe
from ytmp3.http.body import parse_batch_request, parse_extract_request
from ytmp3.http.errors import InvalidField

LINK = "https://youtu.be/dQw4w9WgXcQ?t=1m30s"


def recipe(**fields: Any) -> Recipe:
    """Return the recipe of a request, which has to be the same for a batch."""
    read = parse_extract_request(json.dumps({"url": LINK} | fields).encode()).recipe
    if "link" not in str(fields.get("start")).lower():
        assert parse_batch_request(json.dumps({"urls": [LINK]} | fields).encode()).recipe == read
    return read


def refused(**fields: Any) -> tuple[str | None, str]:
    """Return the field and the text of a refusal."""
    with pytest.raises(InvalidField) as refusal:
        recipe(**fields)
    return refusal.value.field, refusal.value.public_detail


def clock(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"


def spelled(milliseconds: int) -> st.SearchStrategy[object]:
    """Return the ways to write a position."""
    seconds = milliseconds / 1000
    return st.sampled_from([seconds, clock(milliseconds), f" {clock(milliseconds)}\n", f"{seconds:.3f}s"])


@given(st.data(), st.sampled_from(Quality), st.integers(0, 90_000_000), st.none() | st.integers(100, 9_000_000))
def test_every_spelling_of_a_recipe_has_one_key(
    data: st.DataObject, quality: Quality, start: int, length: int | None
) -> None:
    fields: dict[str, object] = {"quality": data.draw(st.sampled_from([quality, quality.upper(), f" {quality}"]))}
    if start or data.draw(st.booleans()):
        fields["start"] = data.draw(spelled(start))
    if length is not None or data.draw(st.booleans()):
        fields["end"] = None if length is None else data.draw(spelled(start + length))
    tenths = data.draw(st.none() | st.integers(-300, -50))
    if tenths is not None:
        fields["loudness"] = data.draw(st.sampled_from([tenths / 10, f"{tenths / 10}", f"{tenths / 10} LUFS"]))
    read = recipe(**fields)
    assert (read.cut.start_ms, read.cut.end_ms) == (start, None if length is None else start + length)
    assert (read.quality, read.loudness) == (quality, "off" if tenths is None else tenths / 10)
    assert parse_recipe(read.spelling) == read


wrong = st.one_of(
    st.booleans(),
    st.integers(-(10**9), -31),
    st.integers(360_001, 10**12),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
)


@given(st.sampled_from(["start", "end", "loudness"]), wrong)
def test_every_wrong_value_is_a_400_that_names_its_field(field: str, value: object) -> None:
    is_right = parse_loudness(value) is not None if field == "loudness" else parse_position(value) not in {None, 0}
    if not is_right and not (field == "start" and parse_position(value) == 0):
        named, text = refused(**{field: value})
        assert named == field
        assert f"`{field}` must be" in text


def test_fields_that_do_not_fit_together_are_a_400_that_names_one() -> None:
    for fields, field, text in (
        ({"start": 10, "end": 5}, "end", "0.1 s after `start`"),
        ({"start": 10, "end": "10.05"}, "end", "0.1 s after `start`"),
        ({"start": "link", "end": 60}, "end", "0.1 s after `start`"),
        ({"format": "m4a", "start": 10}, "start", "mp3 only"),
        ({"format": "opus", "end": 10}, "end", "mp3 only"),
        ({"format": "opus", "start": "link"}, "start", "mp3 only"),
        ({"format": "m4a", "loudness": -14}, "loudness", "mp3 only"),
        ({"format": "M4A", "loudness": "-14 LUFS"}, "loudness", "mp3 only"),
        ({"format": "m4a", "quality": "192k"}, "quality", "mp3 only"),
        ({"start_time": 10}, "start", "Did you mean `start`?"),
        ({"normalize": True}, "loudness", "Did you mean `loudness`?"),
        ({"loudness": None}, "loudness", "-14"),
    ):
        named, detail = refused(**fields)
        assert named == field, fields
        assert text in detail, fields


def test_the_time_of_a_link_is_used_only_on_request() -> None:
    assert recipe().cut.start_ms == 0
    assert recipe(start="link").cut.start_ms == recipe(start=" LINK ").cut.start_ms == 90_000
    assert recipe(start="link", end=100).spelling == "mp3-192k,start=90000,end=100000"
    assert refused(url="https://youtu.be/dQw4w9WgXcQ", start="link")[0] == "start"
    with pytest.raises(RequestError) as refusal:
        recipe(url="https://example.org/?t=5", start="link")
    assert refusal.value.field == "url"
    with pytest.raises(InvalidField) as refused_batch:
        parse_batch_request(json.dumps({"urls": [LINK], "start": "link"}).encode())
    assert refused_batch.value.field == "start"
