"""What tests in several folders need: the profiles of Hypothesis, and an object store.

HYPOTHESIS_PROFILE or `--hypothesis-profile` says how examples are drawn. `repeatable`: the same ones each time; `wild`:
new ones; `soak`: a hundred times as many new ones (`make fuzz`).
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.stand.s3_server import S3Server

# No deadline, and no check of speed: on a busy machine every example is slow.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.register_profile("repeatable", _COMMON, derandomize=True)
settings.register_profile("wild", _COMMON, print_blob=True)
settings.register_profile("soak", _COMMON, print_blob=True, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The object store of all tests in this process. They are in the group `s3`, so that there is only one process."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
