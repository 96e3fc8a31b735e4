"""A list of a thousand jobs on the page: for a test, and for the measurement of how it scrolls."""

import json
from typing import Any, Final

from playwright.async_api import Page

LONG_LIST: Final = 1000


def video(number: int) -> str:
    return f"video{number:06d}"


async def fill_list(page: Page, job: dict[str, Any]) -> None:
    """Let the page know a thousand jobs that are like `job`, by their ids and by the answers of event streams."""
    ids = [f"{number:034x}" for number in range(LONG_LIST)]
    await page.evaluate("ids => localStorage.setItem('ytmp3.jobs', JSON.stringify(ids))", ids)
    await page.route(
        "**/events?*",
        lambda route, request: route.fulfill(
            content_type="text/event-stream",
            body="".join(
                f"event: job\nid: 0\ndata: {json.dumps(job | {'job_id': job_id})}\n\n"
                for job_id in request.url.partition("jobs=")[2].split(",")
            ),
        ),
    )
    await page.route("**/cover/*", lambda route: route.fulfill(status=204))
