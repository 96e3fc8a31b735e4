"""The transitions of the state of the releases of yt-dlp."""

from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.release_state import (
    BUILT_IN,
    DOWNGRADED,
    MAX_QUARANTINED,
    State,
    advanced,
    begun,
    blocked,
    chosen,
    given_up,
    given_up_late,
    is_superseded,
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


@given(old=STATES, version=VERSIONS, is_downgrade=st.booleans())
def test_what_a_command_chooses_is_used_by_all_conversions_and_no_longer_quarantined(
    old: State, version: str, *, is_downgrade: bool
) -> None:
    state = chosen(old, version, is_downgrade=is_downgrade)
    assert (state.active, state.established, state.share, state.serial) == (version, version, 100, old.serial + 1)
    assert version not in state.quarantined
    assert not state.note
    assert not state.is_automatic
    # The other one is what conversions used before, never an update that was only tried.
    assert state.previous == (old.previous if version == old.active else old.established)
    if is_downgrade and old.active not in {BUILT_IN, version}:
        assert state.quarantined[old.active] == DOWNGRADED


@given(STATES, VERSIONS)
def test_an_update_changes_nothing_for_the_other_conversions(old: State, version: str) -> None:
    state = begun(old, version, 5)
    if version != old.active:
        assert state.established == old.established
    assert state.is_new
    larger = advanced(state, 25)
    assert (larger.share, larger.serial) == (25, state.serial)
    left = given_up(larger, state.established, "given up")
    assert left.active == left.previous == state.established
    assert left.is_automatic
    if version not in {BUILT_IN, left.active}:
        assert left.quarantined[version] == "given up"


@given(STATES, VERSIONS, VERSIONS)
def test_a_release_that_is_given_up_late_changes_no_later_choice(newer: State, failed: str, working: str) -> None:
    state = given_up_late(newer, failed, working, "given up")
    if newer.active == failed:
        # A command has chosen it once more, or a server has returned to it.
        assert state == (given_up(newer, working, "given up") if newer.note else newer)
        return
    kept = ("active", "serial", "share", "note", "is_new", "is_automatic")
    assert [getattr(state, name) for name in kept] == [getattr(newer, name) for name in kept]
    assert state.previous == (working if newer.previous == failed else newer.previous)
    if failed != BUILT_IN:
        assert state.quarantined[failed] == "given up"


def test_a_server_does_not_return_to_a_release_that_another_one_has_given_up() -> None:
    update = begun(begun(State(active=OLD), NEW, 100), NEWER, 100)
    state = given_up(given_up_late(update, NEW, OLD, "given up"), NEW, "given up, too")
    assert (state.active, state.previous, set(state.quarantined)) == (OLD, OLD, {NEW, NEWER})
    # The same in the other order.
    state = given_up_late(given_up(update, NEW, "given up"), NEW, OLD, "given up, too")
    assert (state.active, state.previous, set(state.quarantined)) == (OLD, OLD, {NEW, NEWER})


def test_only_an_update_is_left_for_a_newer_built_in_release() -> None:
    update = begun(State(active=OLD), NEW, 5)
    assert is_superseded(update, "2026.11.02")
    assert not is_superseded(update, "2026.10.26")
    assert not is_superseded(update, "2026.08.19")
    assert not is_superseded(begun(State(active=OLD), BUILT_IN, 5), NEWER)
    # Chosen by a command; perhaps chosen by a command before the update that was given up; known to fail.
    assert not is_superseded(chosen(State(), OLD, is_new=True), NEWER)
    assert not is_superseded(given_up(update, OLD, "given up"), NEWER)
    assert not is_superseded(quarantine(update, NEWER, "refused"), "2026.11.02")


def test_an_update_is_blocked_until_a_newer_one_is_used() -> None:
    state = quarantine(quarantine(State(quarantined={NEWER: DOWNGRADED}), NEW, "refused"), "2026.1.1", "refused")
    assert blocked(state, OLD) == (NEW,)
    assert blocked(state, NEWER) == ()
    assert blocked(begun(state, NEWER, 5), OLD) == ()


def test_only_the_newest_releases_stay_quarantined() -> None:
    state = State()
    for number in range(MAX_QUARANTINED + 5):
        state = quarantine(state, f"2026.{1 + number // 28}.{1 + number % 28}", "refused")
    assert len(state.quarantined) == MAX_QUARANTINED
    assert "2026.1.5" not in state.quarantined
    assert "2026.1.6" in state.quarantined
