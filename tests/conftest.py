"""How Hypothesis draws examples in all tests: the profile named by HYPOTHESIS_PROFILE or `--hypothesis-profile`.

`repeatable`: the same examples each time; `wild`: new ones; `soak`: a hundred times as many new ones (`make fuzz`).
"""

import os

from hypothesis import HealthCheck, settings

# No deadline, and no check of speed: on a busy machine every example is slow.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.register_profile("repeatable", _COMMON, derandomize=True)
settings.register_profile("wild", _COMMON, print_blob=True)
settings.register_profile("soak", _COMMON, print_blob=True, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
