"""One fake YouTube for all tests of this folder; each test starts a cluster of its own."""

from collections.abc import Iterator

import pytest

from tests.fake_youtube import Kind, Pace, Spawned, spawn


@pytest.fixture(scope="session")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    pace = Pace(slow_bytes_per_second=60_000, delay_seconds=2.0)
    with spawn(tmp_path_factory.mktemp("youtube"), prepare=(Kind.SHORT, Kind.CLIP), pace=pace) as running:
        yield running
