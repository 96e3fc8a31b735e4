"""The choice of the CPU core on which an encoder runs."""

from contextlib import ExitStack

from ytmp3.converter.audio.cores import Cores


def test_an_encoder_may_use_every_core_while_fewer_encoders_than_cores_run() -> None:
    cores = Cores({0, 1, 2, 3}, max_encoders=9)
    with cores.one() as first, cores.one() as second, cores.one() as third:
        assert (first, second, third) == (None, None, None)


def test_encoders_spread_evenly_once_as_many_run_as_there_are_cores() -> None:
    cores = Cores({2, 5}, max_encoders=9)
    with ExitStack() as encoders:
        given = [encoders.enter_context(cores.one()) for _ in range(5)]
    assert given[0] is None
    assert sorted(core for core in given[1:] if core is not None) == [2, 2, 5, 5]


def test_a_core_is_given_again_when_its_encoder_has_ended() -> None:
    cores = Cores({0, 1}, max_encoders=2)
    with cores.one():
        with cores.one() as left, cores.one() as kept:
            assert {left, kept} == {0, 1}
        with cores.one() as again, cores.one() as other:
            assert {again, other} == {0, 1}


def test_encoders_are_bound_to_one_core_each_once_as_many_run_as_may() -> None:
    cores = Cores(range(16), max_encoders=2)
    with cores.one() as first, cores.one() as second:
        assert first is None
        assert second in range(16)


def test_a_single_core_is_given_to_every_encoder() -> None:
    with Cores({7}, max_encoders=3).one() as core:
        assert core == 7


def test_the_core_of_a_failed_encoder_is_given_again() -> None:
    cores = Cores({0, 1}, max_encoders=2)
    try:
        with cores.one(), cores.one():
            raise RuntimeError
    except RuntimeError:
        pass
    with cores.one() as core:
        assert core is None


def test_a_core_is_idle_until_as_many_encoders_run_as_there_are_cores() -> None:
    cores = Cores({0, 1}, max_encoders=9)
    assert cores.idle == 2
    with cores.one():
        assert cores.idle == 1
        with cores.one(), cores.one():
            assert cores.idle == 0
