"""The queue: bounded together with its reservations, first in first out for a client, and fair to clients."""

import asyncio
from collections import Counter, deque
from statistics import median

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.core.values import conversion
from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3.core.ids import ClientId, ConversionId
from ytmp3.core.job import Conversion
from ytmp3.engine.queue import POSITIONS_SECONDS, FairQueue


def filled(*clients: str, slots: int = 100) -> FairQueue:
    queue = FairQueue(slots, Counter[ClientId])
    for number, client in enumerate(clients):
        queue.put_nowait(conversion(number, client=client))
    return queue


def order_of(queue: FairQueue) -> list[int]:
    return [int(item.conversion_id, 16) for item in queue.in_order()]


def emptied(queue: FairQueue) -> list[int]:
    taken = []
    while not queue.empty():
        taken.append(int(queue.get_nowait().conversion_id, 16))
    return taken


def test_one_client_is_served_first_in_first_out() -> None:
    assert emptied(filled("a", "a", "a")) == [0, 1, 2]


def test_clients_take_turns() -> None:
    assert emptied(filled("a", "a", "a", "b", "c", "b")) == [0, 3, 4, 1, 5, 2]


def test_conversions_are_served_in_the_announced_order() -> None:
    queue = filled("a", "b", "a", "c", "a", "c", "b")
    announced = order_of(queue)
    assert announced == emptied(queue)
    assert queue.qsize() == 0


def test_a_client_with_900_waiting_does_not_delay_20_clients_with_one() -> None:
    queue = FairQueue(1000, Counter[ClientId])
    for number in range(900):
        queue.put_nowait(conversion(number, client="greedy"))
    for number in range(900, 920):
        queue.put_nowait(conversion(number, client=f"client-{number}"))
    served = emptied(queue)
    places = [served.index(number) for number in range(900, 920)]
    # Alone, the twenty would have been served at places 0 to 19.
    assert median(places) <= 2 * median(range(20))
    assert max(places) <= 20


def test_the_client_with_the_fewest_running_is_next() -> None:
    running = Counter({ClientId("a"): 3, ClientId("b"): 1})
    queue = FairQueue(100, lambda: running)
    for number, client in enumerate("aaabbbcc"):
        queue.put_nowait(conversion(number, client=client))
    announced = order_of(queue)
    served = []
    while not queue.empty():
        item = queue.get_nowait()
        served.append(int(item.conversion_id, 16))
        running[item.client] += 1
    assert served == announced == [6, 3, 7, 4, 0, 5, 1, 2]


def test_no_client_keeps_more_than_its_share_while_others_wait() -> None:
    running: Counter[ClientId] = Counter()
    queue = FairQueue(1000, lambda: running)
    for number in range(900):
        queue.put_nowait(conversion(number, client="greedy"))
    workers = deque(queue.get_nowait().client for _ in range(20))
    running.update(workers)
    assert running == {"greedy": 20}  # while no other client waits, one may have all workers
    for number in range(900, 990):
        queue.put_nowait(conversion(number, client=f"client-{number % 3}"))
    for _ in range(20):
        running[workers.popleft()] -= 1
        workers.append(queue.get_nowait().client)
        running[workers[-1]] += 1
    assert set(running.values()) == {5}


def test_a_full_queue_reserves_nothing() -> None:
    queue = FairQueue(2, Counter[ClientId])
    assert queue.reserve()
    queue.fill_reservation(conversion(1))
    assert queue.reserve()
    assert queue.free_slots == 0
    assert not queue.reserve()
    queue.cancel_reservation()
    assert queue.reserve()


def test_a_conversion_that_is_put_back_does_not_take_a_reserved_slot() -> None:
    # A worker puts its conversion back when YouTube begins to refuse; a submission has reserved the slot meanwhile.
    queue = filled("a", slots=1)
    taken = queue.get_nowait()
    assert queue.reserve()
    with pytest.raises(asyncio.QueueFull):
        queue.put_back(taken)
    queue.fill_reservation(conversion(2))
    assert order_of(queue) == [2]


def test_a_conversion_that_is_put_back_is_its_clients_next() -> None:
    queue = filled("a", "a", "b")
    taken = queue.get_nowait()
    queue.put_back(taken)
    assert order_of(queue) == [2, 0, 1]


def test_a_removed_conversion_frees_its_slot_at_once() -> None:
    queue = filled("a", "b", "a", slots=3)
    assert queue.remove(conversion(0).conversion_id)
    assert queue.free_slots == 1
    assert queue.remove(conversion(1).conversion_id)
    assert order_of(queue) == [2]
    assert not queue.remove(conversion(1).conversion_id)
    assert queue.clients() == Counter(a=1)


def test_a_removal_under_a_stale_token_removes_nothing() -> None:
    queue = FairQueue(5, Counter[ClientId])
    queue.put_nowait(conversion(1, token=3))
    assert not queue.remove(conversion(1).conversion_id, token=1)
    assert queue.remove(conversion(1).conversion_id, token=3)


def test_taking_all_empties_the_queue_in_order() -> None:
    queue = filled("a", "a", "b")
    assert [int(item.conversion_id, 16) for item in queue.take_all()] == [0, 2, 1]
    assert (queue.qsize(), queue.empty(), queue.free_slots) == (0, True, 100)
    assert queue.clients() == Counter()


def test_positions_count_from_one_and_are_kept_for_a_quarter_of_a_second() -> None:
    queue = filled("a", "a", "b")
    ids = [conversion(number).conversion_id for number in range(4)]
    assert queue.positions(10.0) == {ids[0]: 1, ids[2]: 2, ids[1]: 3}
    queue.put_nowait(conversion(3, client="c"))
    assert ids[3] not in queue.positions(10.0 + POSITIONS_SECONDS)
    assert queue.positions(10.1 + POSITIONS_SECONDS)[ids[3]] == 3


async def test_a_waiting_worker_gets_the_next_conversion() -> None:
    queue = FairQueue(3, Counter[ClientId])
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert queue.reserve()
    queue.fill_reservation(conversion(5))
    assert (await worker) == conversion(5)
    assert queue.free_slots == 3


class Model(RuleBasedStateMachine):
    """The queue against a list of lines."""

    SLOTS = 6

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(self.SLOTS, Counter[ClientId])
        self.lines: dict[str, deque[Conversion]] = {}
        self.turns: deque[str] = deque()
        self.reserved = 0
        self.number = 0
        self.taken: Conversion | None = None

    @property
    def length(self) -> int:
        return sum(map(len, self.lines.values()))

    def _add(self, item: Conversion, *, first: bool = False) -> None:
        if item.client not in self.lines:
            self.lines[item.client] = deque()
            self.turns.append(item.client)
        line = self.lines[item.client]
        (line.appendleft if first else line.append)(item)

    @rule()
    def reserve(self) -> None:
        fits = self.length + self.reserved < self.SLOTS
        assert self.queue.reserve() == fits
        self.reserved += fits

    @precondition(lambda self: self.reserved > 0)
    @rule()
    def cancel_reservation(self) -> None:
        self.queue.cancel_reservation()
        self.reserved -= 1

    @precondition(lambda self: self.reserved > 0)
    @rule(client=st.sampled_from("abc"))
    def fill_reservation(self, client: str) -> None:
        self.number += 1
        item = conversion(self.number, client=client)
        self.queue.fill_reservation(item)
        self.reserved -= 1
        self._add(item)

    @precondition(lambda self: self.length > 0)
    @rule()
    def take(self) -> None:
        client = self.turns.popleft()
        expected = self.lines[client].popleft()
        if self.lines[client]:
            self.turns.append(client)
        else:
            del self.lines[client]
        self.taken = self.queue.get_nowait()
        assert self.taken == expected

    @precondition(lambda self: self.taken is not None)
    @rule()
    def put_back(self) -> None:
        assert self.taken is not None
        try:
            self.queue.put_back(self.taken)
        except asyncio.QueueFull:
            assert self.length + self.reserved == self.SLOTS
        else:
            self._add(self.taken, first=True)
        self.taken = None

    @rule(number=st.integers(1, 20))
    def remove(self, number: int) -> None:
        found = [item for line in self.lines.values() for item in line if item.conversion_id == f"{number:034x}"]
        assert self.queue.remove(ConversionId(f"{number:034x}")) == bool(found)
        for item in found:
            self.lines[item.client].remove(item)
            if not self.lines[item.client]:
                del self.lines[item.client]
                self.turns.remove(item.client)

    @invariant()
    def agree(self) -> None:
        assert self.queue.qsize() == self.length
        assert self.length + self.reserved <= self.SLOTS
        assert self.queue.free_slots == self.SLOTS - self.length - self.reserved
        assert self.queue.clients() == Counter({client: len(line) for client, line in self.lines.items()})


@pytest.mark.fuzz
def test_the_queue_behaves_like_its_model_in_any_order_of_calls() -> None:
    run_state_machine_as_test(Model, settings=settings(max_examples=80 * FUZZ_FACTOR, stateful_step_count=30))
