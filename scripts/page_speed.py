"""Measures the web page in Chromium: its first paint, and how a list of 1,000 jobs scrolls.

`python -m scripts.page_speed` prints one line for each. The browser draws without a graphics card, so the figures are
those of a slow machine. The list is scrolled by SCROLL_PIXELS in each frame, which is faster than a person reads.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from playwright.async_api import Page, async_playwright

from tests.browser.conftest import ARGUMENTS, new_visit
from tests.browser.long_list import LONG_LIST, fill_list, video
from tests.http.running_service import running_service

SCROLL_PIXELS: Final = 60
"""Pixels that the list moves in a frame: 3,600 a second at 60 frames a second, about 25 jobs."""
FRAMES: Final = 600
SHARES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 0.9999}

FIRST_PAINT: Final = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
FOREIGN: Final = (
    "performance.getEntriesByType('resource').map(e => e.name).filter(name => !name.startsWith(location.origin))"
)
SCROLL: Final = """async ([pixels, count]) => {
  const seconds = [];
  let last = await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < count; frame++) {
    scrollBy(0, pixels);
    const now = await new Promise(requestAnimationFrame);
    seconds.push((now - last) / 1000);
    last = now;
  }
  return seconds;
}"""


async def main() -> None:
    """Start a service and a browser, and print the figures."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(ARGUMENTS))
        with tempfile.TemporaryDirectory() as folder:
            async with running_service(Path(folder) / "data") as service:
                visit = await new_visit(browser, service)
                paints = [await first_paint(visit.page, visit.url) for _ in range(5)]
                print(f"first contentful paint: {sorted(paints)[2]:.0f} ms (median of 5)")
                print(f"requests to other hosts: {len(await visit.page.evaluate(FOREIGN))}")
                await fill_list(visit.page, await service.completed(video(0)))
                await visit.page.reload()
                await visit.page.locator(".job").nth(LONG_LIST - 1).wait_for(state="attached")
                for what in ("down", "down again"):
                    frames = sorted(await visit.page.evaluate(SCROLL, [SCROLL_PIXELS, FRAMES]))
                    shares = {name: 1000 * frames[int(FRAMES * share)] for name, share in SHARES.items()}
                    print(f"scrolling {what}: ms a frame: " + ", ".join(f"{n} {ms:.0f}" for n, ms in shares.items()))
        await browser.close()


async def first_paint(page: Page, url: str) -> float:
    """Return the time from the start of the navigation to the first text or picture, in milliseconds."""
    await page.goto(url)
    paint = await page.wait_for_function(FIRST_PAINT)
    return float(await paint.json_value())


if __name__ == "__main__":
    asyncio.run(main())
