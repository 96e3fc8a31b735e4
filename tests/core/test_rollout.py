"""Updates of yt-dlp: which release is tried, and which share of conversions uses it."""

import functools

from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.release import NIGHTLY, STABLE, is_newer, is_stable
from ytmp3.core.rollout import (
    BROKEN_LOOK_SECONDS,
    COOLING_SECONDS,
    LOOK_SECONDS,
    MAX_SEEN,
    WHOLE,
    CanaryOutcome,
    CanaryVerdict,
    Offer,
    Steps,
    candidate,
    first_seen,
    judge,
    look_seconds,
    takes_new,
)

NOW = 1_800_000_000.0
IN_USE = "2026.10.1"
VERSIONS = st.one_of(
    st.builds("2026.{}.{}".format, st.integers(9, 11), st.integers(1, 28)),
    st.builds("2026.{}.{}.101010.dev0".format, st.integers(9, 11), st.integers(1, 28)),
)
TIMES = st.floats(NOW - 1e6, NOW + 1e6)
OFFERS = st.lists(
    st.builds(Offer, version=VERSIONS, uploaded_at=st.none() | TIMES), max_size=12, unique_by=lambda each: each.version
)


def chosen(
    offers: list[Offer], channel: str = STABLE, *, known_for: float = 0.0, is_broken: bool = False
) -> str | None:
    seen = first_seen(offers, IN_USE, dict.fromkeys((each.version for each in offers), NOW - known_for), NOW)
    return candidate(offers, channel, seen=seen, quarantined=(), now=NOW, is_broken=is_broken)


@given(
    offers=OFFERS,
    channel=st.sampled_from((STABLE, NIGHTLY)),
    quarantined=st.sets(VERSIONS),
    known=st.dictionaries(VERSIONS, TIMES),
    is_broken=st.booleans(),
)
def test_a_candidate_is_newer_known_long_enough_and_not_quarantined(
    offers: list[Offer], channel: str, quarantined: set[str], known: dict[str, float], *, is_broken: bool
) -> None:
    seen = first_seen(offers, IN_USE, known, NOW)
    found = candidate(offers, channel, seen=seen, quarantined=quarantined, now=NOW, is_broken=is_broken)
    by_version = {offer.version: offer for offer in offers}

    def may_be_used(version: str) -> bool:
        uploaded_at = by_version[version].uploaded_at
        since = min(known.get(version, NOW), NOW) if uploaded_at is None else uploaded_at
        is_old_enough = is_broken or NOW - since >= COOLING_SECONDS[channel]
        fits = channel == NIGHTLY or is_stable(version)
        return is_newer(version, IN_USE) and version not in quarantined and fits and is_old_enough

    allowed = {version for version in by_version if may_be_used(version)}
    assert (found in allowed) if allowed else found is None
    assert not any(is_newer(version, str(found)) for version in allowed)


def test_a_young_release_is_used_only_while_the_one_in_use_is_broken() -> None:
    offers = [Offer(version="2026.10.2"), Offer(version="2026.10.9"), Offer(version="2026.10.10.1.dev0")]
    assert chosen(offers) is None
    assert chosen(offers, is_broken=True) == "2026.10.9"
    assert chosen(offers, NIGHTLY, known_for=COOLING_SECONDS[NIGHTLY]) == "2026.10.10.1.dev0"
    assert chosen(offers, known_for=COOLING_SECONDS[NIGHTLY]) is None
    # The time of the upload counts, if the index says it, and not when this installation has seen it.
    young = Offer(version="2026.10.9", uploaded_at=NOW - COOLING_SECONDS[STABLE] + 1)
    assert chosen([offers[0], young], known_for=COOLING_SECONDS[STABLE]) == "2026.10.2"


def test_the_first_sight_of_newer_releases_is_remembered_but_not_without_end() -> None:
    offers = [Offer(version=f"2026.{month}.{day}") for month in range(8, 13) for day in range(1, 29)]
    seen = first_seen(offers, IN_USE, {"2026.12.28": 5.0, "2026.12.27": NOW + 9}, NOW)
    assert len(seen) == MAX_SEEN
    assert (seen["2026.12.28"], seen["2026.12.27"], seen["2026.12.26"]) == (5.0, NOW, NOW)
    assert first_seen([Offer(version=IN_USE), Offer(version="2026.09.30")], IN_USE, {}, NOW) == {}


def test_the_share_grows_by_conversions_or_by_time() -> None:
    steps = Steps()
    share = steps.first(is_broken=False)
    shares = [share]
    good, seconds = steps.conversions, steps.seconds
    while share < WHOLE:
        following = functools.partial(steps.following, share, is_broken=False)
        assert following(good=good - 1, seconds=seconds - 1, may_end_by_time=True) == share
        assert following(good=good - 1, seconds=seconds, may_end_by_time=False) == share
        assert following(good=0, seconds=seconds, may_end_by_time=True) > share
        assert steps.following(share, good=0, seconds=0.0, may_end_by_time=False, is_broken=True) == WHOLE
        share = following(good=good, seconds=0.0, may_end_by_time=False)
        shares.append(share)
    assert tuple(shares) == steps.shares
    assert steps.following(WHOLE, good=good, seconds=0.0, may_end_by_time=True, is_broken=False) == WHOLE
    assert steps.first(is_broken=True) == WHOLE


@given(st.sampled_from(Steps().shares))
def test_a_share_of_random_numbers_takes_the_new_release(share: int) -> None:
    assert sum(takes_new(share, number / 1000) for number in range(1000)) == share * 10


@given(st.floats(0, 1, exclude_max=True))
def test_the_index_is_asked_at_irregular_intervals_and_sooner_while_conversions_fail(random: float) -> None:
    assert 0.8 * LOOK_SECONDS <= look_seconds(random, is_broken=False) <= 1.2 * LOOK_SECONDS
    assert 0.8 * BROKEN_LOOK_SECONDS <= look_seconds(random, is_broken=True) <= 1.2 * BROKEN_LOOK_SECONDS


def test_a_canary_that_fails_with_both_releases_blames_none() -> None:
    served, worse, undecided = CanaryOutcome.SERVED, CanaryOutcome.WORSE, CanaryOutcome.UNDECIDED
    assert judge([]) is CanaryVerdict.PASSED
    assert judge([undecided, served]) is CanaryVerdict.PASSED
    assert judge([served, worse, undecided]) is CanaryVerdict.REFUSED
    assert judge([undecided, undecided]) is CanaryVerdict.UNDECIDED
