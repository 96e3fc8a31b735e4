"""Ids: their form, their shard, and the names of files that are made of them."""

import re
from collections import Counter

import pytest

from tests.core.values import KEY, conversion
from ytmp3.core.ids import (
    INSTANCE_CHARACTERS,
    ConversionKey,
    VideoId,
    new_conversion_id,
    new_instance_id,
    new_job_id,
    parse_job_id,
    place_of,
    shard_of,
)
from ytmp3.core.job import conversion_id_of, track_file_name
from ytmp3.core.recipe import DEFAULT_RECIPE, conversion_key

CHANCE = bytes(range(16))


def test_the_ids_of_a_key_begin_with_its_shard() -> None:
    assert new_job_id(KEY, CHANCE) == shard_of(KEY) + CHANCE.hex()
    assert new_conversion_id(KEY, CHANCE) == shard_of(KEY) + CHANCE.hex()


def test_the_id_of_an_instance_is_new_at_each_start_and_tells_its_place() -> None:
    ids = [new_instance_id(place, bytes([start]) * 16) for place in ("host :: 1", "host :: 2") for start in (1, 2)]
    assert len(set(ids)) == 4
    assert [place_of(each) for each in ids] == [place_of(ids[0])] * 2 + [place_of(ids[2])] * 2
    assert place_of(ids[0]) != place_of(ids[2])
    assert {len(each) for each in ids} == {INSTANCE_CHARACTERS}


def test_the_shards_are_evenly_filled() -> None:
    # 256 bins, 25,600 keys: chi squared with 255 degrees of freedom stays below 310.5 (p > 0.01).
    shards = Counter(shard_of(conversion_key(VideoId(f"{number:011d}"), DEFAULT_RECIPE)) for number in range(25_600))
    assert len(shards) == 256
    assert sum((count - 100) ** 2 / 100 for count in shards.values()) < 310.5


def test_every_shard_is_used() -> None:
    assert {shard_of(ConversionKey(f"key {number}")) for number in range(4096)} == {f"{n:02x}" for n in range(256)}


def test_a_new_job_id_has_the_form_of_one() -> None:
    job_id = new_job_id(KEY, CHANCE)
    assert parse_job_id(job_id) == job_id


@pytest.mark.parametrize(
    "text", ["", "ab", "a" * 33, "a" * 35, "A" * 34, "g" * 34, "a" * 34 + "\n", "٣" * 34, " " + "a" * 34]
)
def test_any_other_text_is_no_job_id(text: str) -> None:
    assert parse_job_id(text) is None


def test_a_tracks_file_name_names_its_conversion() -> None:
    held = conversion()
    name = track_file_name(held.lease, DEFAULT_RECIPE)
    assert name.startswith(f"{held.conversion_id}-{held.token}")
    assert conversion_id_of(name) == held.conversion_id


def test_version_0_2_knows_the_file_name_of_a_track() -> None:
    # Its sweep deletes files with other names, and may run beside this version during an upgrade, or after a rollback.
    name = track_file_name(conversion().lease, DEFAULT_RECIPE)
    assert re.fullmatch(r"[0-9a-f]{34}-[0-9]+\.mp3", name)


@pytest.mark.parametrize("rest", ["-12.mp3", "-12-0123456789abcdef.mp3"])
def test_a_file_name_of_an_earlier_version_names_its_conversion_too(rest: str) -> None:
    assert conversion_id_of("ab" * 17 + rest) == "ab" * 17


@pytest.mark.parametrize(
    "name", ["", "x.mp3", ".lock", "a" * 34 + ".mp3", "a" * 34 + "-1.exe", "a" * 34 + "-.mp3", "a" * 34 + "-1-.mp3"]
)
def test_any_other_file_name_names_no_conversion(name: str) -> None:
    assert conversion_id_of(name) is None
