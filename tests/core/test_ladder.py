"""The ways to ask YouTube: their order, and when one is left out."""

from tests.fakes import Clock
from ytmp3.converter.youtube.ladder import FAILURES_TO_SKIP, SKIP_SECONDS, Ladder, Rung, clients_of

BOTH = (Rung.LIGHT, Rung.DEFAULT)


def test_the_default_clients_are_asked_without_the_one_that_failed() -> None:
    assert clients_of(Rung.LIGHT, []) == ("visionos",)
    assert clients_of(Rung.DEFAULT, []) == ("default",)
    assert clients_of(Rung.DEFAULT, [Rung.LIGHT]) == ("default", "-visionos")


def test_a_rung_that_fails_five_times_in_a_row_is_left_out_and_then_tried_by_one() -> None:
    clock = Clock()
    ladder = Ladder(BOTH, clock)
    for _ in range(FAILURES_TO_SKIP):
        assert ladder.rungs() == BOTH
        ladder.ended(Rung.DEFAULT, [Rung.LIGHT])
    assert ladder.rungs() == (Rung.DEFAULT,)
    clock.now += SKIP_SECONDS
    assert ladder.rungs() == BOTH
    assert ladder.rungs() == (Rung.DEFAULT,), "one conversion tries, the others wait for its end"
    ladder.ended(Rung.LIGHT, [])
    assert ladder.rungs() == BOTH


def test_a_success_between_failures_counts() -> None:
    ladder = Ladder(BOTH, Clock())
    for _ in range(3 * FAILURES_TO_SKIP):
        ladder.ended(Rung.DEFAULT, [Rung.LIGHT])
        ladder.ended(Rung.LIGHT, [])
    assert ladder.rungs() == BOTH


def test_there_is_always_a_way_to_ask() -> None:
    ladder = Ladder((Rung.LIGHT,), Clock())
    for _ in range(FAILURES_TO_SKIP):
        ladder.ended(Rung.DEFAULT, [Rung.LIGHT])
    assert ladder.rungs() == (Rung.LIGHT,)
