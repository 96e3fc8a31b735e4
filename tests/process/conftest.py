"""One fake YouTube for each worker of the test run. Its media files are made once for the machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, spawn


@pytest.fixture(scope="session")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    folder: Path = tmp_path_factory.mktemp("youtube")
    with spawn(folder, prepare=(Kind.SHORT, Kind.CLIP)) as running:
        yield running
