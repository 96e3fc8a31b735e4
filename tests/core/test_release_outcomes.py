"""Outcomes are counted for a bounded number of releases."""

from ytmp3.core.release_outcomes import MAX_RELEASES, ReleaseOutcome, ReleaseOutcomes


def test_the_outcomes_of_the_releases_that_were_used_last_are_counted() -> None:
    outcomes = ReleaseOutcomes()
    for number in range(MAX_RELEASES):
        outcomes.use(f"2026.11.{number + 1}")
    outcomes.add("2026.11.1", ReleaseOutcome.BLAMED)
    outcomes.use("2026.11.1")
    outcomes.use("2026.12.1")
    outcomes.add("2026.12.1", ReleaseOutcome.CONVERTED)
    outcomes.add("2026.11.2", ReleaseOutcome.CONVERTED)
    counts = outcomes.counts()
    assert len(counts) == MAX_RELEASES * len(ReleaseOutcome)
    assert {key: count for key, count in counts.items() if count} == {
        ("2026.11.1", "blamed"): 1,
        ("2026.12.1", "converted"): 1,
    }
    assert not [release for release, _ in counts if release == "2026.11.2"]
