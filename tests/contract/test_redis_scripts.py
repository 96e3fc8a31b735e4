"""The Lua scripts as files: they get every name of a state or stage from the enumerations of the core."""

import re
from importlib.resources import files

import pytest

from ytmp3.core.errors import FailureCode
from ytmp3.core.job import Stage, State
from ytmp3.core.webhook import DeliveryState, WebhookEvent
from ytmp3.jobstore.redis.scripts import SHARED, constants, read_scripts

FOLDER = files("ytmp3.jobstore.redis") / "lua"
SOURCES = {file.name: file.read_text("utf-8") for file in FOLDER.iterdir() if file.name.endswith(".lua")}
SCRIPTS = read_scripts()


def without_comments(source: str) -> str:
    return re.sub(r"--.*", "", source)


def test_every_member_is_a_constant_of_the_scripts() -> None:
    for name, members in (("STATE", State), ("STAGE", Stage), ("DELIVERY", DeliveryState)):
        (table,) = re.findall(rf"local {name} = \{{(.*)\}}", constants())
        assert dict(re.findall(r"(\w+) = '(\w+)'", table)) == {each.name: each.value for each in members}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_script_uses_only_constants_that_exist(name: str) -> None:
    used = set(re.findall(r"\b(STATE|STAGE|DELIVERY)\.(\w+)", without_comments(SOURCES[name])))
    known = {("STATE", each.name) for each in State} | {("STAGE", each.name) for each in Stage}
    known |= {("DELIVERY", each.name) for each in DeliveryState}
    assert used <= known


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_script_spells_no_state_no_stage_and_no_error_itself(name: str) -> None:
    strings = set(re.findall(r"'([^']*)'", without_comments(SOURCES[name])))
    assert not strings & ({*State} | {*Stage} | {*FailureCode} | {*DeliveryState} | {*WebhookEvent})


def test_each_script_begins_with_its_flags_and_has_the_constants_and_the_shared_part() -> None:
    assert set(SCRIPTS) == {name.removesuffix(".lua") for name in SOURCES if name not in SHARED}
    for name, script in SCRIPTS.items():
        assert script.text.startswith("#!lua"), name
        assert script.text.count("#!lua") == 1, name
        assert constants() in script.text, name
        for shared in SHARED:
            assert SOURCES[shared] in script.text, name
