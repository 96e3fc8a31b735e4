"""What holds for every test: how Hypothesis draws its examples, by HYPOTHESIS_PROFILE or `--hypothesis-profile`.

`repeatable`: the same each time; `wild`: new ones; `soak`: a hundred times as many new ones (`make fuzz`).
"""

import os

from hypothesis import HealthCheck, settings

# A loaded machine is slow: that is no finding.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.register_profile("repeatable", _COMMON, derandomize=True)
settings.register_profile("wild", _COMMON, print_blob=True)
settings.register_profile("soak", _COMMON, print_blob=True, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
