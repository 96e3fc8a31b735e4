"""The pictures of the page in the documents. `make screenshots` keeps them; `make test` only looks whether they work.

The videos are films of the Blender Foundation, under free licences.
"""

import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import PATIENCE_MS, new_visit
from tests.http.running_service import RunningService
from ytmp3.core.errors import FailureCode
from ytmp3.core.job import Metadata

FILMS = {
    "aqz-KE-bpKQ": ("Big Buck Bunny 60fps 4K - Official Blender Foundation Short Film", 635.0),
    "eRsGyueVLvQ": ("Sintel - Open Movie by Blender Foundation", 888.0),
    "R6MlUcmOul8": ("Tears of Steel - Blender VFX Open Movie", 734.0),
    "Y-rmzh0PI3c": ("Cosmos Laundromat - First Cycle", 730.0),
}
FOLDER = os.environ.get("SCREENSHOTS")
"""Where the pictures are kept; None: nowhere."""


@pytest.mark.parametrize(
    ("name", "scheme", "width"),
    [
        ("page", "light", 860),
        ("page-dark", "dark", 860),
        ("page-phone", "light", 390),
        ("page-phone-dark", "dark", 390),
    ],
)
async def test_the_page_is_shown_in_a_picture(
    browser: Browser, service: RunningService, tmp_path: Path, name: str, scheme: str, width: int
) -> None:
    converter = service.converter
    for video_id, (title, seconds) in FILMS.items():
        converter.metadata[video_id] = Metadata(
            title=title, uploader="Blender", duration_seconds=seconds, thumbnail_url=None
        )
    converter.size_bytes = 9_000_000
    converter.hold("R6MlUcmOul8")
    converter.fail("Y-rmzh0PI3c", FailureCode.REGION_BLOCKED)
    visit = await new_visit(browser, service, color_scheme=scheme, viewport={"width": width, "height": 900})
    await visit.open()
    await visit.convert(*(f"https://youtu.be/{video_id}" for video_id in FILMS))
    for status, count in (("processing", 1), ("failed", 1), ("completed", 2)):
        await expect(visit.page.locator(f".job.{status}")).to_have_count(count, timeout=PATIENCE_MS)
    await visit.page.evaluate("document.activeElement.blur()")
    path = Path(FOLDER or tmp_path) / f"{name}.png"
    await visit.page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 20_000
    assert visit.complaints == []
