"""A page of its own in a browser that all tests share.

Chromium takes longer to start than most tests take. So these tests run on one worker, and in one event loop, which the
connection to the browser belongs to.
"""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.http.running_service import RunningService, running_service

PATIENCE_MS: Final = 120_000
"""Longest wait for anything on a page, in milliseconds. On an idle machine everything here takes less than a second."""
ARGUMENTS: Final = (
    "--no-sandbox",  # tests may run as root, where Chromium's own sandbox does not work
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


FOLDER: Final = Path(__file__).parent
shared_loop: Final = pytest_asyncio.fixture(loop_scope="session")
"""The decorator of fixtures for tests with a browser."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests in this folder run in one event loop on one worker."""
    for item in items:
        if item.path.parent == FOLDER and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.xdist_group("browser"))


@dataclass(frozen=True, slots=True)
class Visit:
    """A page of the service in a browser, with all that went wrong in it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    async def open(self, path: str = "/") -> None:
        await self.page.goto(self.url + path)

    async def convert(self, *links: str) -> None:
        """Enter links, and press the button."""
        await self.page.fill("#links", "\n".join(links))
        await self.page.click("#convert button.primary")


async def new_visit(browser: Browser, service: RunningService, **options: object) -> Visit:
    """Open an empty browser window for a service."""
    context = await browser.new_context(**options)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    visit = Visit(await context.new_page(), service.url)
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on(
        "console", lambda line: visit.complaints.append(line.text) if line.type in {"error", "warning"} else None
    )
    return visit


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    found = shutil.which("chromium")
    assert found is not None, "no Chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS), timeout=PATIENCE_MS)
        yield browser
        await browser.close()


@shared_loop
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """The shared browser. Windows that a test opens are closed at its end."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


@shared_loop
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path / "data") as running:
        yield running


@shared_loop
async def visit(browser: Browser, service: RunningService) -> Visit:
    return await new_visit(browser, service)
