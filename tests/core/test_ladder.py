"""The ways to ask YouTube: their order, whom a conversion leaves out, and when all conversions leave it out."""

from tests.fakes import Clock
from ytmp3.converter.youtube.ladder import (
    DEFAULT,
    FAILURES_TO_SKIP,
    LIGHT,
    MAX_CLIENTS,
    SKIP_SECONDS,
    Ladder,
    Rung,
    Way,
)

BOTH = (LIGHT, DEFAULT)
PAIR = Rung(clients=("tv", "web"))


def test_the_default_clients_are_asked_without_the_one_that_failed() -> None:
    way = Way(BOTH)
    assert way.player_clients == ["visionos"]
    assert way.step_on(is_blamed=True)
    assert (way.player_clients, way.failed) == (["default", "-visionos"], [LIGHT])
    assert not way.step_on(is_blamed=True)
    assert (way.rung, way.failed) == (DEFAULT, [LIGHT])


def test_yt_dlp_chooses_by_itself_where_nobody_is_left_out() -> None:
    way = Way((DEFAULT,))
    assert (way.player_clients, way.leaves_out) == ([], False)


def test_a_failure_of_the_video_is_not_recorded_against_the_rung() -> None:
    way = Way(BOTH)
    way.step_on(is_blamed=False)
    assert (way.rung, way.failed) == (DEFAULT, [])


def test_a_refused_client_is_left_out_of_its_group_until_nobody_is_left_there() -> None:
    way = Way((PAIR, DEFAULT))
    assert way.leave_out(["tv", "tv_samsung"])
    assert (way.rung, way.player_clients) == (PAIR, ["tv", "web", "-tv", "-tv_samsung"])
    assert way.leave_out(["web"])
    assert (way.rung, way.failed) == (DEFAULT, [PAIR])
    assert way.player_clients == ["default", "-tv", "-tv_samsung", "-web"]


def test_everybody_is_asked_again_after_everybody_was_refused() -> None:
    way = Way((LIGHT, PAIR))
    assert way.leave_out(["visionos"])
    assert not way.leave_out(["tv", "web"])
    way.start_over()
    assert (way.rung, way.player_clients, way.leaves_out) == (LIGHT, ["visionos"], False)


def test_a_rung_whose_clients_are_all_left_out_is_not_asked() -> None:
    assert Way(BOTH, ["visionos"]).rung == DEFAULT
    assert Way((PAIR, LIGHT, DEFAULT), ["visionos", "tv"]).rung == PAIR
    assert Way((LIGHT,), ["visionos"]).player_clients == ["visionos"]
    way = Way((PAIR, LIGHT, DEFAULT), ["visionos"])
    assert way.step_on(is_blamed=True)
    assert way.rung == DEFAULT


def test_clients_that_all_conversions_leave_out_are_asked_last() -> None:
    way = Way(BOTH, ["visionos"])
    assert way.player_clients == ["default", "-visionos"]
    assert way.step_on(is_blamed=False)
    assert way.player_clients == ["visionos"]
    assert not way.step_on(is_blamed=False)


def test_a_choice_of_yt_dlp_without_some_clients_is_a_rung() -> None:
    way = Way((Rung(clients=("default", "-tv_samsung")), PAIR))
    assert way.player_clients == ["default", "-tv_samsung"]
    assert way.leave_out(["visionos"])
    assert way.player_clients == ["default", "-tv_samsung", "-visionos"]
    way.step_on(is_blamed=True)
    assert way.player_clients == ["tv", "web", "-visionos"]


def test_a_rung_that_fails_five_times_in_a_row_is_left_out_and_then_tried_by_one() -> None:
    clock = Clock()
    ladder = Ladder(BOTH, clock)
    for _ in range(FAILURES_TO_SKIP):
        assert ladder.way() == (BOTH, ())
        ladder.ended(DEFAULT, [LIGHT], "TVHTML5", ["VISIONOS"])
    assert ladder.way() == ((DEFAULT,), ("VISIONOS",))
    clock.now += SKIP_SECONDS
    assert ladder.way() == (BOTH, ())
    assert ladder.way() == ((DEFAULT,), ("VISIONOS",)), "one conversion tries, the others wait for its end"
    ladder.ended(LIGHT, [], "VISIONOS", [])
    assert ladder.way() == (BOTH, ())


def test_a_client_that_is_refused_inside_its_rung_is_left_out_of_it() -> None:
    ladder = Ladder((DEFAULT,), Clock())
    for _ in range(FAILURES_TO_SKIP):
        ladder.ended(DEFAULT, [], "VISIONOS", ["TVHTML5"])
    assert ladder.way() == ((DEFAULT,), ("TVHTML5",))


def test_a_success_between_failures_counts() -> None:
    ladder = Ladder(BOTH, Clock())
    for _ in range(3 * FAILURES_TO_SKIP):
        ladder.ended(DEFAULT, [LIGHT], "TVHTML5", ["VISIONOS"])
        ladder.ended(LIGHT, [], "VISIONOS", [])
    assert ladder.way() == (BOTH, ())


def test_there_is_always_a_way_to_ask() -> None:
    ladder = Ladder((LIGHT,), Clock())
    for _ in range(FAILURES_TO_SKIP):
        ladder.ended(DEFAULT, [LIGHT, PAIR], "", [])
    assert ladder.way() == ((LIGHT,), ())


def test_invented_names_of_clients_do_not_fill_the_memory() -> None:
    ladder = Ladder(BOTH, Clock())
    for _ in range(FAILURES_TO_SKIP):
        ladder.ended(LIGHT, [], "VISIONOS", [f"CLIENT{number}" for number in range(10 * MAX_CLIENTS)])
    assert len(ladder.way()[1]) == MAX_CLIENTS
