"""The pictures of the page in the documents. `make screenshots` keeps them; `make test` only looks whether they work.

The videos are films of the Blender Foundation, under free licences.
"""

import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.async_api import Browser, expect

from tests.browser.conftest import PATIENCE_MS, new_visit
from tests.http.running_service import RunningService
from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.tags import tags_of
from ytmp3.core.errors import FailureCode
from ytmp3.core.job import Metadata

FILMS = {
    "aqz-KE-bpKQ": ("Big Buck Bunny 60fps 4K - Official Blender Foundation Short Film", 635.0),
    "eRsGyueVLvQ": ("Sintel - Open Movie by Blender Foundation", 888.0),
    "R6MlUcmOul8": ("Tears of Steel - Blender VFX Open Movie", 734.0),
    "Y-rmzh0PI3c": ("Cosmos Laundromat - First Cycle", 730.0),
}
COLOURS = {"aqz-KE-bpKQ": ("#8fbf6b", "#f1d9a8"), "eRsGyueVLvQ": ("#33415c", "#d9883f")}
"""The colours of the drawn covers, ground and sky: the repository has no pictures of the films."""
FOLDER = os.environ.get("SCREENSHOTS")
"""Where the pictures are kept; None: nowhere."""


def track_of(title: str, ground: str, sky: str) -> bytes:
    """Return a track with a drawn cover."""
    picture = Image.new("RGB", (300, 300), sky)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((180, 40, 250, 110), "#fff4d6")
    draw.polygon([(0, 220), (90, 120), (170, 200), (230, 150), (300, 230), (300, 300), (0, 300)], ground)
    cover = BytesIO()
    picture.save(cover, "JPEG")
    metadata = Metadata(title=title, uploader="Blender", duration_seconds=None, thumbnail_url=None)
    return id3v2_tag(tags_of(metadata, "https://youtu.be/", cover.getvalue())).ljust(9_000_000, b"\0")


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
    for video_id, colours in COLOURS.items():
        converter.contents[video_id] = track_of(FILMS[video_id][0], *colours)
    converter.hold("R6MlUcmOul8")
    converter.fail("Y-rmzh0PI3c", FailureCode.REGION_BLOCKED)
    visit = await new_visit(browser, service, color_scheme=scheme, viewport={"width": width, "height": 900})
    await visit.open()
    await visit.convert(*(f"https://youtu.be/{video_id}" for video_id in FILMS))
    for status, count in (("processing", 1), ("failed", 1), ("completed", 2)):
        await expect(visit.page.locator(f".job.{status}")).to_have_count(count, timeout=PATIENCE_MS)
    await expect(visit.page.locator(".job .cover img")).to_have_count(2, timeout=PATIENCE_MS)
    await visit.page.evaluate("document.activeElement.blur()")
    path = Path(FOLDER or tmp_path) / f"{name}.png"
    await visit.page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 20_000
    assert visit.complaints == []
