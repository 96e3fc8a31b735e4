"""The examples of the API reference, run as printed: curl in a shell, and fetch in a browser; and its search."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, expect

from scripts.route_examples import ADDRESS, WITH_KEY, curl, fetch
from tests.browser.conftest import PATIENCE_MS, Visit, new_visit, shared_loop
from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import until
from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.tags import tags_of
from ytmp3.core.job import Metadata
from ytmp3.http.keys import key_line, new_secret
from ytmp3.http.routes import ROUTES, Route

expect.set_options(timeout=PATIENCE_MS)
KEY: Final = new_secret(b"k" * 24)
VIDEO: Final = "dQw4w9WgXcQ"
PICTURE: Final = b"\xff\xd8\xff picture"


@shared_loop
async def guarded(tmp_path: Path) -> AsyncIterator[RunningService]:
    (tmp_path / "keys").write_text(key_line("alice", KEY) + "\n")
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(tmp_path / "keys")) as service:
        metadata = Metadata(title="A song", uploader=None, duration_seconds=3.0, thumbnail_url=None)
        service.converter.contents[VIDEO] = id3v2_tag(tags_of(metadata, "https://youtu.be/", PICTURE)) + bytes(9000)
        service.client.headers["X-API-Key"] = KEY
        yield service


async def values_of(service: RunningService) -> dict[str, str]:
    """Make what the placeholders of the examples stand for."""
    job = await service.completed(VIDEO)
    async with service.client.post(f"{service.url}/batches", json={"urls": [VIDEO]}) as response:
        batch_id = (await response.json())["batch_id"]

    async def has_ended() -> bool:
        async with service.client.get(f"{service.url}/batches/{batch_id}") as response:
            return bool((await response.json())["status"] == "completed")

    await until(has_ended, "the batch has ended")
    async with service.client.post(f"{service.url}/feed") as response:
        token = (await response.json())["feed_url"].rpartition("/")[2].removesuffix(".xml")
    return {"JOB_ID": job["job_id"], "BATCH_ID": batch_id, "TOKEN": token, "NUMBER": "0"}


def filled(text: str, values: dict[str, str], service: RunningService) -> str:
    for name, value in (values | {ADDRESS: service.url, "ytmp3_...": KEY}).items():
        text = text.replace(name, value)
    return text


def in_order() -> list[Route]:
    """Return the routes, with those at the end that delete what others need. Making a feed replaces the last one."""
    return sorted(ROUTES, key=lambda route: (route.method == "DELETE", route.operation == "make_feed"))


def expected(route: Route) -> set[int]:
    # No webhook was sent about the job or the batch, so there is none to send again.
    return {404} if route.operation.startswith("redeliver") else {status for status in route.responses if status < 300}


async def test_each_line_of_curl_works_as_printed(guarded: RunningService, tmp_path: Path) -> None:
    values = await values_of(guarded)
    for route in in_order():
        line = filled(curl(route), values, guarded)
        more = "" if route.operation in WITH_KEY else f'-H "X-API-Key: {KEY}" '
        line = line.replace("curl ", f"curl {more}-s --noproxy '*' -w '\\n%{{http_code}}' ", 1)
        folder = tmp_path / "downloads" / route.operation
        folder.mkdir(parents=True)
        process = await asyncio.create_subprocess_exec("sh", "-c", line, cwd=folder, stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        assert process.returncode == 0, line
        assert int(output.rpartition(b"\n")[2]) in expected(route), line
    saved = {path.read_bytes()[:3] for path in (tmp_path / "downloads").rglob("*") if path.is_file()}
    assert saved == {b"ID3", b"PK\x03", PICTURE[:3], b"#!/"}  # tracks, the archive, the cover and the client


async def test_each_call_of_fetch_works_as_printed(browser: Browser, guarded: RunningService) -> None:
    visit = await new_visit(browser, guarded)
    await visit.open()
    await visit.page.fill("#key", KEY)
    await visit.page.click("#sign-in button")
    await expect(visit.page.locator(".sign-out")).to_be_visible()
    values = await values_of(guarded)
    for route in in_order():
        code = filled(fetch(route), values, guarded)
        status = await visit.page.evaluate(f"async () => {{ {code}\nreturn response.status; }}")
        assert status in expected(route), code


async def test_the_reference_has_the_examples_of_each_route_with_the_address_of_the_service(visit: Visit) -> None:
    await visit.open("/docs")
    await expect(visit.page.locator("search")).to_be_visible()
    shown = await visit.page.locator("main").inner_text()
    for route in ROUTES:
        for example in (curl(route), fetch(route)):
            assert example.replace(ADDRESS, visit.url) in shown
    assert ADDRESS not in shown
    assert visit.complaints == []


async def test_the_search_shows_only_the_parts_that_contain_each_word(visit: Visit) -> None:
    await visit.open("/docs")
    await visit.page.fill("#search", "storage_full")
    await expect(visit.page.locator("#found")).to_have_text(re.compile(r"^\d parts contain this$"))
    await expect(visit.page.locator("#errors")).to_be_visible()
    await expect(visit.page.locator("#cancel")).to_be_hidden()
    await visit.page.fill("#search", "storage_full no-such-word")
    await expect(visit.page.locator("#found")).to_have_text("0 parts contain this")
    await visit.page.fill("#search", "")
    await expect(visit.page.locator("#cancel")).to_be_visible()


async def test_without_scripts_the_reference_has_everything_but_the_search(service: RunningService) -> None:
    async with service.client.get(service.url + "/docs") as response:
        text = unescape(await response.text())
    assert "<search hidden>" in text
    for route in ROUTES:
        assert curl(route) in text
        assert fetch(route) in text
