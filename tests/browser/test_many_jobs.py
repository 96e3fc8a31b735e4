"""Long lists on the page: many jobs at once, and a list of a thousand that must scroll smoothly."""

from typing import Final

from playwright.async_api import Page, Request, expect

from tests.browser.conftest import PATIENCE_MS, Visit
from tests.browser.long_list import LONG_LIST, fill_list, video
from tests.http.running_service import RunningService

expect.set_options(timeout=PATIENCE_MS)
JOBS: Final = 50
VISIBLE: Final = 30
"""Most cards that the browser may lay out at once: those in a window of 800 pixels, and about as many around it."""


def requests_of(page: Page) -> list[str]:
    """Return a list to which the path of each further request of the page is added."""
    paths: list[str] = []

    def add(request: Request) -> None:
        paths.append("/" + request.url.split("/", 3)[3].partition("?")[0])

    page.on("request", add)
    return paths


async def test_fifty_jobs_at_once_are_followed_with_one_stream(visit: Visit, service: RunningService) -> None:
    released = [service.converter.hold(video(number)) for number in range(JOBS)]
    jobs = [(await service.submit(video(number)))["job_id"] for number in range(JOBS)]
    paths = requests_of(visit.page)
    await visit.open(f"/?jobs={','.join(jobs)}")
    await expect(visit.page.locator(".job")).to_have_count(JOBS)
    # The service has fewer workers than jobs, so some run and the others wait.
    await expect(visit.page.locator(".job.processing").first).to_be_visible()
    await expect(visit.page.locator(".job.pending .state").first).to_contain_text("in the queue")
    for event in released:
        event.set()
    await expect(visit.page.locator(".job.completed")).to_have_count(JOBS)
    order = await visit.page.locator(".job").evaluate_all("cards => cards.map(card => card.dataset.id)")
    assert order == jobs
    # One stream to read the list, and one to follow it; not a request for each job.
    assert paths.count("/events") <= 3, "a connection that breaks is opened once more"
    assert not any(path.startswith("/status") for path in paths)
    assert visit.complaints == []


async def test_a_list_of_a_thousand_is_read_with_few_requests_and_laid_out_in_part(
    visit: Visit, service: RunningService
) -> None:
    job = await service.completed(video(0))
    paths = requests_of(visit.page)
    await visit.open()
    # The service need not convert a thousand videos: the page gets answers for them that the test makes up.
    await fill_list(visit.page, job)
    await visit.page.reload()
    await expect(visit.page.locator(".job")).to_have_count(LONG_LIST)
    assert paths.count("/events") == LONG_LIST // 100
    laid_out = await visit.page.locator(".job .words").evaluate_all(
        "all => all.filter(one => one.checkVisibility({ contentVisibilityAuto: true })).length"
    )
    assert 1 <= laid_out <= VISIBLE
    await visit.page.locator(".job").last.scroll_into_view_if_needed()
    await expect(visit.page.locator(".job").last).to_be_in_viewport()
    # Only the covers on the screen were requested, not a thousand.
    assert len([path for path in paths if path.startswith("/cover/")]) <= 2 * VISIBLE
