"""The rules of identities: budgets, pauses, trials, and the choice among them."""

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ytmp3.core import identities as rules
from ytmp3.core.breaker import PAUSES
from ytmp3.core.errors import Fault
from ytmp3.core.identities import Budget, IdentityState, Standing

HOUR = 3600.0
GUEST = Budget(name="guest", videos_per_hour=240)
OTHER = Budget(name="other", videos_per_hour=240)
UNLIMITED = Budget(name="unlimited", videos_per_hour=0)
NOW = 1_000_000.0
PAUSE = PAUSES[Fault.ADDRESS].first


@dataclass
class Door:
    """One identity on a clock."""

    budget: Budget = GUEST
    now: float = NOW

    def __post_init__(self) -> None:
        self.standing = rules.unused(self.budget, self.now)

    @property
    def wait(self) -> float:
        return rules.wait_seconds(self.standing, self.budget, self.now)

    def take(self) -> float:
        """Take a token; returns when."""
        assert not self.wait
        self.standing = rules.taken(self.standing, self.budget, self.now)
        return self.now

    def fail(self, video: str, fault: Fault = Fault.ADDRESS, *, taken_at: float | None = None) -> None:
        at = self.take() if taken_at is None else taken_at
        self.standing = rules.failed(self.standing, video, fault, self.now, taken_at=at)

    def serve(self, taken_at: float | None = None) -> None:
        at = self.take() if taken_at is None else taken_at
        self.standing = rules.served(self.standing, self.now, taken_at=at)

    def close(self) -> None:
        for video in "abc":
            self.fail(video)
        assert self.standing.cause is Fault.ADDRESS


@given(videos=st.integers(1, 2000), gaps=st.lists(st.floats(0.0, 900.0), max_size=300))
def test_no_hour_has_more_starts_than_the_budget(videos: int, gaps: list[float]) -> None:
    door = Door(Budget(name="any", videos_per_hour=videos))
    starts = []
    for gap in [*gaps, *[0.0] * 50]:
        door.now += gap
        if not door.wait:
            starts.append(door.take())
    assert all(sum(begin <= at < begin + HOUR for at in starts) <= videos for begin in starts)


def test_a_burst_is_followed_by_the_pace() -> None:
    door = Door()
    for _ in range(20):
        door.take()
    assert door.wait == pytest.approx(HOUR / 220)
    door.now += door.wait
    door.take()
    assert door.wait > 16
    door.now += 10 * HOUR
    assert rules.refilled(door.standing, GUEST, door.now).tokens == 20.0
    door.now -= 20 * HOUR
    assert rules.refilled(door.standing, GUEST, door.now).tokens == door.standing.tokens


def test_three_videos_in_a_row_close_an_identity_and_a_trial_opens_it_slowly() -> None:
    door = Door()
    late = door.take()
    door.close()
    assert rules.state_of(door.standing) is IdentityState.COOLING
    assert door.wait == PAUSE
    # Outcomes of conversions that had started before say nothing.
    door.serve(late)
    door.fail("d", taken_at=late)
    door.standing = rules.ended(door.standing, taken_at=late)
    assert door.wait == PAUSE
    door.now += PAUSE
    trial = door.take()
    # No second trial beside it for a minute.
    assert door.wait >= rules.TRIAL_SECONDS
    door.fail("e", taken_at=trial)
    assert door.wait >= 2 * PAUSE
    door.now += 1000.0
    trial = door.take()
    door.serve(trial)
    assert rules.state_of(door.standing) is IdentityState.OK
    assert rules.pace_at(door.standing, door.standing.paced_at) == pytest.approx(0.1)
    assert rules.pace_at(door.standing, door.standing.paced_at + 1200.0) == pytest.approx(0.4)
    assert rules.pace_at(door.standing, door.standing.paced_at + HOUR) == 1.0


def test_a_trial_without_an_outcome_makes_room_for_the_next() -> None:
    for end in (rules.ended, None):
        door = Door()
        door.close()
        door.now += 2 * HOUR
        trial = door.take()
        if end is None:
            door.standing = rules.put_back(door.standing, GUEST, door.now, taken_at=trial)
        else:
            door.standing = end(door.standing, taken_at=trial)
        assert door.standing.trial_at is None
    door = Door()
    at = door.take()
    door.standing = rules.put_back(door.standing, GUEST, door.now, taken_at=at)
    assert door.standing.tokens == 20.0


def test_two_videos_close_an_identity_only_after_more_refusals() -> None:
    door = Door()
    for video in "abab":
        door.fail(video)
    assert door.standing.cause is None
    door.fail("a")
    assert door.standing.cause is Fault.ADDRESS
    alone = Door()
    for _ in range(8):
        alone.fail("a")
    assert alone.standing.cause is None


@pytest.mark.parametrize("fault", [Fault.NETWORK, Fault.SETTINGS])
def test_an_identity_that_reaches_nothing_is_closed_until_an_extraction_succeeds(fault: Fault) -> None:
    door = Door()
    door.fail("a", fault)
    door.fail("a", fault)
    door.standing = rules.reached(door.standing, taken_at=door.now)
    for _ in range(3):
        door.fail("a", fault)
    assert door.wait == PAUSES[fault].first
    expected = IdentityState.BROKEN if fault is Fault.SETTINGS else IdentityState.COOLING
    assert rules.state_of(door.standing) is expected
    door.now += door.wait
    trial = door.take()
    door.standing = rules.reached(door.standing, taken_at=trial)
    assert door.standing.cause is None
    assert rules.pace_at(door.standing, door.now) == 1.0
    unchanged = rules.reached(door.standing, taken_at=trial)
    assert unchanged == rules.reached(unchanged, taken_at=trial)


def test_a_refusal_counts_against_a_video_that_others_are_served_beside() -> None:
    door = Door()
    door.fail("a")
    first_at = door.now
    assert not rules.costs_an_attempt(door.standing, "a", refused_before_at=None)
    door.now += 60.0
    door.serve()
    door.fail("a")
    assert rules.costs_an_attempt(door.standing, "a", refused_before_at=first_at)
    # Others are refused too, and none is served: it is the identity.
    before_at = door.now
    door.fail("b")
    assert not rules.costs_an_attempt(door.standing, "b", refused_before_at=before_at)
    door.fail("c")
    assert not rules.costs_an_attempt(door.standing, "c", refused_before_at=first_at)


def test_a_warning_halves_the_pace_once_a_minute_and_never_below_a_tenth() -> None:
    door = Door()
    paces = []
    for _ in range(6):
        door.now += 30.0
        door.standing = rules.slowed(door.standing, door.now)
        paces.append(rules.pace_at(door.standing, door.now))
    assert paces == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    door.now += 60.0
    door.standing = rules.slowed(door.standing, door.now)
    assert door.standing.pace == 0.1
    door.close()
    assert rules.slowed(door.standing, door.now) == door.standing


def choose(standings: rules.Standings, *budgets: Budget, avoid: frozenset[str] = frozenset()) -> rules.Choice:
    return rules.choose(budgets or (GUEST, OTHER), standings, NOW, avoid=avoid)


def test_the_fullest_identity_is_chosen_and_a_due_trial_before_it() -> None:
    used = replace(rules.unused(GUEST, NOW), tokens=5.0)
    assert choose({"guest": used}).name == "other"
    rested = replace(rules.unused(OTHER, NOW), at=NOW - 5.0)
    assert choose({"guest": rules.unused(GUEST, NOW), "other": rested}).name == "other"
    due = replace(rested, cause=Fault.ADDRESS, until=NOW - 1.0)
    choice = choose({"other": due})
    assert (choice.name, choice.is_trial) == ("other", True)
    assert choose({"other": replace(due, until=NOW + 9.0)}).name == "guest"
    assert choose({}, UNLIMITED).name == "unlimited"


def test_a_refused_conversion_takes_another_identity_or_waits_for_it() -> None:
    avoid = frozenset({"guest"})
    empty = replace(rules.unused(OTHER, NOW), tokens=0.0)
    assert choose({}, avoid=avoid).name == "other"
    waiting = choose({"other": empty}, avoid=avoid)
    assert waiting.name is None
    assert waiting.wait_seconds == pytest.approx(HOUR / 220)
    closed = replace(empty, cause=Fault.ADDRESS, until=NOW + 60.0)
    assert choose({"other": closed}, avoid=avoid).name == "guest"
    assert choose({}, avoid=frozenset({"guest", "other"})).name in {"guest", "other"}


def test_all_are_closed_only_if_none_is_ok() -> None:
    closed = replace(rules.unused(GUEST, NOW), cause=Fault.ADDRESS, until=NOW + 60.0)
    later = replace(closed, until=NOW + 90.0)
    assert rules.closed_seconds((GUEST, OTHER), {"guest": closed}, NOW) == 0.0
    assert rules.closed_seconds((GUEST, OTHER), {"guest": closed, "other": later}, NOW) == 60.0


def test_states_that_are_not_used_any_more_are_dropped() -> None:
    old = replace(rules.unused(GUEST, NOW), at=NOW - 2 * rules.FORGET_SECONDS)
    assert rules.without_old({"old": old, "new": rules.unused(OTHER, NOW)}, NOW).keys() == {"new"}


def test_a_state_survives_the_store() -> None:
    door = Door()
    door.close()
    assert msgspec.json.decode(msgspec.json.encode(door.standing), type=Standing) == door.standing


def test_a_clock_that_is_set_back_makes_no_pause_longer() -> None:
    door = Door()
    door.close()
    past = {"guest": Door().standing}
    assert rules.without_future(past, NOW)["guest"] is past["guest"]
    closed = {"guest": door.standing}
    assert rules.without_future(closed, door.now) == closed
    door.now += PAUSE
    door.take()
    running = {"guest": door.standing}
    assert rules.without_future(running, door.now - 1.0)["guest"].trial_at == door.now
    for standings in (closed, running):
        now = door.now - 24 * HOUR
        (bounded,) = rules.without_future(standings, now).values()
        assert rules.wait_seconds(replace(bounded, tokens=1.0), GUEST, now) == PAUSE
        assert rules.pace_at(bounded, now + PAUSE + rules.DOUBLING_SECONDS) == 2 * rules.SLOWEST_PACE
    door.serve(taken_at=door.now)
    (bounded,) = rules.without_future({"guest": door.standing}, door.now - HOUR).values()
    assert (bounded.at, bounded.served_at) == (door.now - HOUR, door.now - HOUR)


def test_an_extraction_that_does_not_wait_is_counted_all_the_same() -> None:
    """The conversions after it wait for as long as if they had made it."""
    door = Door()
    for _ in range(GUEST.burst):
        door.take()
    assert door.wait
    wait = door.wait
    door.standing = rules.charged(door.standing, GUEST, door.now)
    assert door.standing.tokens == -1.0
    assert door.wait == pytest.approx(2 * wait)
    door.now += door.wait
    door.take()
    assert door.wait == pytest.approx(wait)
