"""One service for a test, in its own folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.http.stand import Stand, stand


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(tmp_path / "data") as running:
        yield running
