"""One service for a test, in its own folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.http.running_service import RunningService, running_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path / "data") as running:
        yield running
