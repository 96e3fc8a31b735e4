"""What holds for every test: Hypothesis draws the same examples each time (`--hypothesis-profile=wild`: new ones)."""

from hypothesis import HealthCheck, settings

# A loaded machine is slow: that is no finding.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.register_profile("repeatable", _COMMON, derandomize=True)
settings.register_profile("wild", _COMMON, print_blob=True)
settings.load_profile("repeatable")
