"""How clients share places: for running conversions, extractions and encoders, and for transfers and connections."""

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.ids import ClientId
from ytmp3.core.sharing import Places, may_take_more

PLACES = Places(count=20, spare=10)


def may_take(client: str, waiting: str = "", places: Places = PLACES, **held: int) -> bool:
    others = {ClientId(name): count for name, count in held.items()}
    return places.may_take(ClientId(client), others, {ClientId(name) for name in waiting + client})


def test_a_client_that_is_alone_may_use_all_places_and_no_spare_one() -> None:
    assert may_take("a")
    assert may_take("a", a=19)
    assert not may_take("a", a=20)


def test_a_client_that_arrives_takes_spare_places_up_to_its_part() -> None:
    assert may_take("b", a=20)
    assert may_take("b", a=20, b=9)
    assert not may_take("b", a=20, b=10)  # the part of two clients is ten places each


def test_no_more_than_the_spare_places_are_used() -> None:
    assert may_take("d", a=20, b=4, c=5)
    assert not may_take("d", a=20, b=5, c=5)


def test_no_spare_place_is_used_while_no_client_has_more_than_its_part() -> None:
    others = {ClientId(name): 1 for name in "abcdefghijklmnopqrst"}
    assert not PLACES.may_take(ClientId("z"), others, {ClientId("z")})
    pairs = {ClientId(name): 2 for name in "abcdefghij"}
    assert PLACES.may_take(ClientId("z"), pairs, {ClientId("z")})  # 20 places for 11 clients: each pair is one too many


def test_a_client_with_more_than_its_part_gets_no_place_while_others_use_the_rest() -> None:
    assert not may_take("a", a=19, b=3)


def test_with_more_clients_than_places_the_places_of_a_greedy_client_do_not_count() -> None:
    encoders = Places(count=2, spare=2)
    assert may_take("c", waiting="d", places=encoders, a=2, b=1)
    assert not may_take("d", places=encoders, a=2, b=1, c=1)


def test_waiting_clients_make_the_parts_smaller() -> None:
    assert may_take("b", a=20, b=6)
    assert not may_take("b", waiting="cd", a=20, b=6)


@given(
    count=st.integers(1, 20),
    spare=st.integers(0, 20),
    moves=st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=120),
)
def test_the_places_stay_bounded_and_none_is_idle_while_a_client_waits(
    count: int, spare: int, moves: list[tuple[str, bool]]
) -> None:
    places = Places(count=count, spare=spare)
    held: Counter[ClientId] = Counter()
    waiting: Counter[ClientId] = Counter()
    began: deque[ClientId] = deque()
    for name, ends in moves:
        if ends and began:
            ended = began.popleft()
            held -= Counter((ended,))
        else:
            waiting[ClientId(name)] += 1
        while waiting:
            first = min(waiting, key=lambda client: (held[client], client))
            if not places.may_take(first, held, waiting):
                # Nobody with fewer places waits, so the others may not take one either.
                assert not any(places.may_take(other, held, waiting) for other in waiting)
                break
            # A spare place is for a client with less than its part: at least one place, at most an equal share.
            clients = len({*held, *waiting})
            assert held.total() < count or held[first] < max(1, count // clients)
            waiting -= Counter((first,))
            held[first] += 1
            began.append(first)
        assert held.total() <= count + spare
        assert not waiting or held.total() >= count


@pytest.mark.parametrize(("held", "in_use", "may"), [(0, 0, True), (99, 99, True), (100, 100, False), (0, 199, True)])
def test_a_client_takes_at_most_as_many_places_as_it_leaves_free(held: int, in_use: int, *, may: bool) -> None:
    assert may_take_more(held, in_use, 200) is may


def test_one_client_after_the_other_gets_half_of_what_is_left() -> None:
    shares = []
    in_use = 0
    for _ in range(8):
        held = 0
        while may_take_more(held, in_use + held, 200):
            held += 1
        shares.append(held)
        in_use += held
    assert shares == [100, 50, 25, 13, 6, 3, 2, 1]


def test_a_full_house_refuses_everybody() -> None:
    assert not may_take_more(0, 200, 200)
