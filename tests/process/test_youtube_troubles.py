"""The whole service while some player clients fail. `make soak` runs the same with 200 conversions, and an outage."""

from pathlib import Path

import pytest

from tests.fake_youtube import Kind, spawn
from tests.stand.youtube_troubles import TROUBLES, convert_in_trouble


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_no_conversion_fails_while_some_clients_do(tmp_path: Path, trouble: str) -> None:
    with spawn(tmp_path / "youtube", prepare=[Kind.SHORT]) as youtube:
        figures = await convert_in_trouble(youtube, tmp_path, jobs=12, first_number=1, trouble=trouble)
    # Of so few, most have begun before any of them could know.
    assert figures["extractions"] <= 2
    assert figures["more than one attempt"] == 0
