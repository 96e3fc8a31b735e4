"""What `ytmp3 doctor` says of an egress route, by what the player clients have served."""

import pytest

from ytmp3.converter.youtube.ladder import DEFAULT, LIGHT, Rung, single_clients
from ytmp3.core.examination import MEANINGS, Outcome, outcome_of_all, outcome_of_way

DEFAULTS = ("tv_samsung", "visionos", "web")


@pytest.mark.parametrize(
    ("serving", "codes", "outcome"),
    [
        ([0, 1], ["extractor_broken"], Outcome.WORKS),
        ([1], ["extractor_broken"], Outcome.DEGRADED),
        ([], ["extractor_broken", "bot_check"], Outcome.ADDRESS_REFUSED),
        ([], ["rate_limited_upstream", "upstream_unreachable"], Outcome.ADDRESS_REFUSED),
        ([], ["upstream_unreachable"], Outcome.UNREACHABLE),
        ([], ["egress_misconfigured"], Outcome.UNREACHABLE),
        ([], ["private", "extractor_broken"], Outcome.VIDEO),
        ([], ["extractor_broken", "upstream_error", "tool_missing"], Outcome.BROKEN),
        ([], ["", "invented by a child"], Outcome.BROKEN),
        ([], [], Outcome.BROKEN),
    ],
)
def test_a_way_out_is_judged_by_its_clients(serving: list[int], codes: list[str], outcome: Outcome) -> None:
    assert outcome_of_way(serving, codes) is outcome


def test_several_ways_out_are_judged_together() -> None:
    works, degraded, refused = Outcome.WORKS, Outcome.DEGRADED, Outcome.ADDRESS_REFUSED
    assert outcome_of_all([works, works]) is works
    assert outcome_of_all([refused, works]) is degraded
    assert outcome_of_all([degraded]) is degraded
    assert outcome_of_all([refused, Outcome.UNREACHABLE]) is refused
    assert outcome_of_all([]) is Outcome.BROKEN
    assert set(MEANINGS) == set(Outcome)


def test_each_client_is_asked_once_and_belongs_to_its_first_group() -> None:
    expected = [(0, "visionos"), (1, "tv_samsung"), (1, "web")]
    assert single_clients((LIGHT, DEFAULT), DEFAULTS) == expected
    groups = (Rung(clients=("default", "-web", "mweb")), Rung(clients=("web",)), Rung(clients=("all",)))
    assert single_clients(groups, DEFAULTS) == [
        (0, "tv_samsung"), (0, "visionos"), (0, "mweb"), (1, "web"), (2, "all"),
    ]  # fmt: skip
