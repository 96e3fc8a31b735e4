"""The transitions of the state of the releases of yt-dlp."""

from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.release_state import (
    BUILT_IN,
    LEFT,
    MAX_QUARANTINED,
    State,
    advanced,
    begun,
    blocked,
    chosen,
    given_up,
    quarantine,
)

OLD, NEW, NEWER = "2026.8.19", "2026.10.26", "2026.11.2"
VERSIONS = st.sampled_from((BUILT_IN, OLD, NEW, NEWER))
STATES = st.builds(
    State,
    active=VERSIONS,
    previous=VERSIONS,
    serial=st.integers(0, 5),
    is_new=st.booleans(),
    note=st.sampled_from(("", "given up")),
    share=st.sampled_from((5, 25, 100)),
    quarantined=st.dictionaries(st.sampled_from((OLD, NEW, NEWER)), st.just("refused")),
)


@given(old=STATES, version=VERSIONS, is_left=st.booleans())
def test_what_a_command_chooses_is_used_by_all_conversions_and_no_longer_quarantined(
    old: State, version: str, *, is_left: bool
) -> None:
    state = chosen(old, version, is_left=is_left)
    assert (state.active, state.established, state.share, state.serial) == (version, version, 100, old.serial + 1)
    assert version not in state.quarantined
    assert not state.note
    assert not state.is_automatic
    # The other one is what conversions used before, never an update that was only tried.
    assert state.previous == (old.previous if version == old.active else old.established)
    if is_left and old.active not in {BUILT_IN, version}:
        assert state.quarantined[old.active] == LEFT


@given(STATES, VERSIONS)
def test_an_update_changes_nothing_for_the_other_conversions(old: State, version: str) -> None:
    state = begun(old, version, 5, 12.0)
    if version != old.active:
        assert state.established == old.established
    assert state.is_new
    larger = advanced(state, 25, 13.0)
    assert (larger.share, larger.since, larger.serial) == (25, 13.0, state.serial)
    left = given_up(larger, state.established, "given up")
    assert left.active == left.previous == state.established
    assert left.is_automatic
    if version not in {BUILT_IN, left.active}:
        assert left.quarantined[version] == "given up"


def test_an_update_is_blocked_until_a_newer_one_is_used() -> None:
    state = quarantine(quarantine(State(quarantined={NEWER: LEFT}), NEW, "refused"), "2026.1.1", "refused")
    assert blocked(state, OLD) == (NEW,)
    assert blocked(state, NEWER) == ()
    assert blocked(begun(state, NEWER, 5, 1.0), OLD) == ()


def test_only_the_newest_releases_stay_quarantined() -> None:
    state = State()
    for number in range(MAX_QUARANTINED + 5):
        state = quarantine(state, f"2026.{1 + number // 28}.{1 + number % 28}", "refused")
    assert len(state.quarantined) == MAX_QUARANTINED
    assert "2026.1.5" not in state.quarantined
    assert "2026.1.6" in state.quarantined
