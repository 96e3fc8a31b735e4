"""The model of the capacity: which part a demand needs how much of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from scripts.bench.capacity_model import REDIS_NODE_SHARE, Costs, Demand, Storage, answer, conversion_seconds, plan

COSTS = Costs(fixed=0.3, per_minute=0.57, idle_mb=81.0, peak_mb=350.0)
DEMAND = Demand(per_hour=1000.0)


def test_a_copied_song_takes_a_sixth_of_the_cpu_of_an_encoded_one() -> None:
    encoded, copied = (conversion_seconds(COSTS, 4.0, copied=share) for share in (0.0, 1.0))
    assert encoded == pytest.approx(2.61)
    assert copied == pytest.approx(0.45)
    assert conversion_seconds(COSTS, 4.0, copied=0.5) == pytest.approx((encoded + copied) / 2)


def test_an_identity_is_needed_for_every_240_conversions_an_hour() -> None:
    assert [plan(COSTS, Demand(per_hour=rate)).identities for rate in (1, 240, 241, 100_000)] == [1, 1, 2, 417]


def test_a_bucket_that_sends_the_tracks_itself_saves_the_cpu_of_downloads() -> None:
    disk, proxy, redirect = (plan(COSTS, replace(DEMAND, storage=storage)) for storage in Storage)
    conversion = conversion_seconds(COSTS, DEMAND.minutes)
    assert redirect.cpu_seconds == pytest.approx(conversion)
    assert proxy.cpu_seconds - conversion == pytest.approx(2.4 * (disk.cpu_seconds - conversion))
    assert (disk.to_clients, redirect.to_clients) == (proxy.to_clients, 0.0)
    assert (disk.s3_requests, disk.s3_mbit) == (0.0, 0.0)
    assert redirect.s3_mbit == pytest.approx(3 * disk.to_clients)


def test_redis_gets_another_node_for_its_memory_and_for_its_cpu() -> None:
    assert plan(COSTS, DEMAND).redis_nodes == 1
    assert plan(COSTS, replace(DEMAND, retention_hours=24.0 * 365)).redis_nodes == 3
    busy = plan(COSTS, replace(DEMAND, polls_per_job=100_000.0))
    assert busy.redis_share / busy.redis_nodes <= REDIS_NODE_SHARE < busy.redis_share


def test_jobs_that_share_a_conversion_need_no_conversion() -> None:
    alone, shared = (plan(COSTS, replace(DEMAND, jobs_per_conversion=number)) for number in (1.0, 10.0))
    assert (alone.identities, alone.track_gb) == (shared.identities, shared.track_gb)
    assert shared.to_clients == pytest.approx(10 * alone.to_clients)
    assert alone.redis_gb < shared.redis_gb < 10 * alone.redis_gb


@given(rate=st.floats(1.0, 1e6), minutes=st.floats(0.1, 600.0), storage=st.sampled_from(Storage))
def test_twice_the_demand_never_needs_less(rate: float, minutes: float, storage: Storage) -> None:
    once = plan(COSTS, Demand(per_hour=rate, minutes=minutes, storage=storage))
    twice = plan(COSTS, Demand(per_hour=2 * rate, minutes=minutes, storage=storage))
    for field in once.__struct_fields__:
        assert getattr(twice, field) >= getattr(once, field)


def test_the_answer_names_every_part_and_the_bound_of_identities() -> None:
    text = answer(COSTS, Demand(per_hour=250_000.0, storage=Storage.S3_PROXY))
    assert text.startswith("250,000 conversions an hour of 4 minutes each")
    assert "| identities | 1042 of 240 videos an hour (one installation takes 1000) |" in text
    for part in ("cores", "Redis nodes", "Redis memory", "requests to the bucket", "tracks"):
        assert f"| {part} | " in text
