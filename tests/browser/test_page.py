"""The page as people use it: links in, progress, playing, downloading, errors, reloading, and no script at all."""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from msgspec.structs import replace
from PIL import Image
from playwright.async_api import Browser, expect

from tests.browser.conftest import PATIENCE_MS, Visit, new_visit
from tests.fake_playlists import DESCRIPTION
from tests.http.played_encoder import FRAME_BYTES, INFO_BYTES, encoder_of, frames
from tests.http.running_service import TITLE, RunningService, running_service
from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.tags import tags_of
from ytmp3.core.errors import FailureCode, QueueFull
from ytmp3.core.job import Chapter, Metadata
from ytmp3.http.keys import key_line, new_secret

expect.set_options(timeout=PATIENCE_MS)
VIDEO: Final = "dQw4w9WgXcQ"
LINK: Final = f"https://youtu.be/{VIDEO}"
KEY: Final = new_secret(b"k" * 24)


def video(number: int) -> str:
    return f"video{number:06d}"


def link(number: int) -> str:
    return f"https://youtu.be/{video(number)}"


async def test_a_link_becomes_a_file_that_is_downloaded_under_its_title(
    visit: Visit, service: RunningService, tmp_path: Path
) -> None:
    released = service.converter.hold(VIDEO)
    await visit.open()
    await visit.page.fill("#links", LINK)
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.locator(".job.processing progress")).to_be_visible()
    await expect(visit.page.locator(".job .cancel")).to_be_visible()
    released.set()
    await expect(visit.page.locator(".job.completed .title")).to_have_text(TITLE)
    async with visit.page.expect_download() as started:
        await visit.page.click(".job .download")
    download = await started.value
    await download.save_as(tmp_path / "track.mp3")
    (track,) = (path for path in (service.data_dir / "tracks").iterdir() if path.suffix == ".mp3")
    content = (tmp_path / "track.mp3").read_bytes()
    assert hashlib.sha256(content).digest() == hashlib.sha256(track.read_bytes()).digest()
    assert download.suggested_filename.startswith("Rock")
    assert visit.complaints == []


async def test_the_form_offers_the_languages_of_its_video(visit: Visit, service: RunningService) -> None:
    await visit.open()
    await visit.page.fill("#links", LINK)
    await visit.page.click("summary")
    await visit.page.focus("#language")
    await expect(visit.page.locator("#languages option")).to_have_count(2)
    assert await visit.page.locator("#languages option").first.get_attribute("value") == "en-US"
    await visit.page.fill("#language", "de")
    await visit.page.click("#convert button.primary")
    await expect(visit.page.locator(".job.completed .detail")).to_contain_text("192k de")
    assert service.converter.described == [VIDEO]
    assert visit.complaints == []


async def test_a_finished_track_shows_its_cover(visit: Visit, service: RunningService) -> None:
    picture = BytesIO()
    Image.new("RGB", (40, 40), "teal").save(picture, "JPEG")
    metadata = Metadata(title=TITLE, uploader=None, duration_seconds=3.0, thumbnail_url=None)
    service.converter.contents[VIDEO] = id3v2_tag(tags_of(metadata, LINK, picture.getvalue())) + bytes(9000)
    released = service.converter.hold(VIDEO)
    await visit.open()
    await visit.convert(LINK, link(1))
    await expect(visit.page.locator(".job.completed")).to_have_count(1)
    await expect(visit.page.locator(".job.processing .title")).to_have_text(TITLE)
    released.set()
    await expect(visit.page.locator(".job .cover img")).to_have_count(1)
    assert await visit.page.locator(".job .cover img").evaluate("image => image.naturalWidth") == 40
    await expect(visit.page.locator(".job.completed")).to_have_count(2)
    assert visit.complaints == []


async def test_a_track_is_heard_while_it_is_converted(visit: Visit, service: RunningService, tmp_path: Path) -> None:
    released = service.converter.hold(VIDEO)
    await visit.open()
    await visit.convert(LINK)
    await expect(visit.page.locator(".job.processing .play")).to_have_text("Listen")
    encoder = await encoder_of(service, VIDEO, tmp_path)
    encoder.begin()
    encoder.write(3)
    await visit.page.click(".job.processing .play")
    address = await visit.page.locator(".job.processing audio").evaluate("player => player.src")
    assert address.startswith(f"{visit.url}/listen/")
    async with service.client.get(address) as response:
        assert (response.status, response.content_type) == (200, "audio/mpeg")
        sound = await response.content.readexactly(INFO_BYTES + 3 * FRAME_BYTES)
    assert sound[INFO_BYTES:] == frames(3)
    released.set()
    await expect(visit.page.locator(".job.completed .title")).to_have_text(TITLE)


async def test_tags_are_chosen_for_one_video(visit: Visit, service: RunningService) -> None:
    await visit.open()
    await visit.page.click("summary")
    await visit.page.fill("#title", "Mine")
    await visit.page.select_option("#cover", "no")
    await visit.convert(LINK, link(1))
    await expect(visit.page.locator("#notice")).to_contain_text("A title can be chosen for one video")
    await visit.convert(LINK)
    await expect(visit.page.locator(".job.completed .title")).to_have_text("Mine")
    await expect(visit.page.locator("#title")).to_have_value("")
    await visit.convert(link(1))
    await expect(visit.page.locator(".job.completed")).to_have_count(2)
    assert await visit.page.locator(".job .title").all_text_contents() == [TITLE, "Mine"]
    assert visit.complaints == []


async def test_the_list_survives_a_reload_in_the_middle_of_a_conversion(visit: Visit, service: RunningService) -> None:
    released = service.converter.hold(VIDEO)
    await visit.open()
    await visit.convert(LINK, link(1))
    await expect(visit.page.locator(".job.completed")).to_have_count(1)
    await visit.page.reload()
    await expect(visit.page.locator(".job")).to_have_count(2)
    released.set()
    await expect(visit.page.locator(".job.completed")).to_have_count(2)
    await visit.page.click("#clear")
    await expect(visit.page.locator("#jobs-section")).to_be_hidden()
    await visit.page.reload()
    await expect(visit.page.locator("#links")).to_be_visible()
    await expect(visit.page.locator(".job")).to_have_count(0)


async def test_a_refused_link_stays_in_the_form_with_the_reason(visit: Visit, service: RunningService) -> None:
    await visit.open()
    await visit.convert("https://evil.example/<img src=x onerror=alert(1)>", LINK)
    await expect(visit.page.locator(".job.completed")).to_have_count(1)
    await expect(visit.page.locator("#notice")).to_contain_text("is not a link to YouTube")
    await expect(visit.page.locator("#links")).to_have_value("https://evil.example/<img")
    await expect(visit.page.locator("#links")).to_be_focused()


async def test_a_failure_is_explained_and_can_be_tried_again(visit: Visit, service: RunningService) -> None:
    service.converter.fail(VIDEO, *[FailureCode.UPSTREAM_TIMEOUT] * 4)
    service.converter.fail(video(1), FailureCode.PRIVATE)
    await visit.open()
    await visit.convert(link(1))
    await expect(visit.page.locator(".job.failed .state")).to_have_text("The video is private.")
    await expect(visit.page.locator(".job .again")).to_be_hidden()
    await visit.page.click(".job .remove")
    await expect(visit.page.locator(".job")).to_have_count(0)


async def test_another_try_keeps_the_chosen_tags(visit: Visit, service: RunningService) -> None:
    service.converter.hold(VIDEO)
    await visit.open()
    await visit.page.click("summary")
    await visit.page.fill("#title", "Mine")
    await visit.page.select_option("#cover", "no")
    await visit.convert(LINK)
    await visit.page.click(".job.processing .cancel")
    await visit.page.click(".job.cancelled .again")
    service.converter.held[VIDEO].set()
    await expect(visit.page.locator(".job.completed .title")).to_have_text("Mine")
    assert visit.complaints == []


async def test_chapters_become_numbered_tracks_of_a_batch(visit: Visit, service: RunningService) -> None:
    chapters = tuple(Chapter(start_seconds=60.0 * number, title=f"Part {number}") for number in range(3))
    metadata = replace(DESCRIPTION.metadata, title="A mix", chapters=chapters)
    service.converter.descriptions[VIDEO] = replace(DESCRIPTION, metadata=metadata)
    await visit.open()
    await visit.page.click("summary")
    await visit.page.fill("#artist", "DJ")
    await visit.page.select_option("#split", "chapters")
    await visit.convert(LINK)
    await expect(visit.page.locator(".batch .title")).to_have_text("A mix")
    await expect(visit.page.locator(".batch .state")).to_contain_text("3 of 3 ready")
    await expect(visit.page.locator(".batch .detail")).to_contain_text("3 chapters")
    await visit.page.click(".batch summary")
    await expect(visit.page.locator(".batch .items li")).to_have_count(3)
    await expect(visit.page.locator(".batch .items li").nth(1)).to_contain_text("Part 1")
    await expect(visit.page.locator("#split")).to_have_value("whole")
    assert visit.complaints == []


async def test_a_conversion_can_be_cancelled_and_started_again(visit: Visit, service: RunningService) -> None:
    service.converter.hold(VIDEO)
    await visit.open()
    await visit.convert(LINK)
    await visit.page.click(".job.processing .cancel")
    await expect(visit.page.locator(".job.cancelled .state")).to_have_text("Cancelled")
    await visit.page.click(".job .again")
    await expect(visit.page.locator(".job.processing")).to_have_count(1)
    await expect(visit.page.locator(".job")).to_have_count(1)


async def test_many_links_become_one_batch_with_one_archive(visit: Visit, service: RunningService) -> None:
    await visit.open()
    await visit.convert(*(link(number) for number in range(50)), "https://evil.example/youtube")
    await expect(visit.page.locator(".batch .state")).to_contain_text("50 of 51 ready, 1 without a track")
    await visit.page.click(".batch summary")
    await expect(visit.page.locator(".batch .items li")).to_have_count(51)
    async with visit.page.expect_download() as started:
        await visit.page.click(".batch .download")
    assert (await started.value).suggested_filename.endswith(".zip")
    await visit.page.reload()
    await expect(visit.page.locator(".batch")).to_have_count(1)


async def test_a_full_queue_is_said_and_the_link_is_kept(visit: Visit, service: RunningService) -> None:
    await visit.open()
    service.store.broken["submit"] = QueueFull(retry_after_seconds=1)
    await visit.convert(LINK)
    await expect(visit.page.locator("#notice")).to_contain_text("queue of conversions is full")
    await expect(visit.page.locator("#links")).to_have_value(LINK)


async def test_the_page_goes_on_after_the_connection_was_lost(visit: Visit, service: RunningService) -> None:
    released = service.converter.hold(VIDEO)
    await visit.open()
    await visit.convert(LINK)
    await expect(visit.page.locator(".job.processing")).to_have_count(1)
    await visit.page.context.set_offline(True)
    await expect(visit.page.locator("#notice")).to_contain_text("connection to the service is lost")
    released.set()
    await visit.page.context.set_offline(False)
    await expect(visit.page.locator(".job.completed")).to_have_count(1)


async def test_the_page_goes_on_after_a_restart_of_the_service(browser: Browser, tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as first:
        first.converter.hold(VIDEO)
        visit = await new_visit(browser, first)
        await visit.open()
        await visit.convert(LINK, link(1))
        await expect(visit.page.locator(".job.completed")).to_have_count(1)
        await expect(visit.page.locator(".job.processing")).to_have_count(1)
    await expect(visit.page.locator("#notice")).to_contain_text("connection to the service is lost")
    await expect(visit.page.locator(".job")).to_have_count(2)
    async with running_service(tmp_path / "data", PORT=str(first.port)) as second:
        await expect(visit.page.locator(".job.completed")).to_have_count(2)
        await expect(visit.page.locator("#notice")).to_be_hidden()
        assert second.converter.converted == [VIDEO]
        # The browser reports each attempt to connect, and nothing else went wrong.
        assert all("net::ERR_" in complaint for complaint in visit.complaints)
        await visit.page.goto("about:blank")  # ends the connections of the page before the service


async def test_without_scripts_the_form_leads_to_the_file(browser: Browser, service: RunningService) -> None:
    visit = await new_visit(browser, service, java_script_enabled=False)
    released = service.converter.hold(VIDEO)
    await visit.open()
    await visit.convert(LINK)
    await expect(visit.page.locator(".job .state")).to_contain_text("Converting")
    released.set()
    await expect(visit.page.locator(".job a.button")).to_be_visible()  # the page loads itself again


async def test_a_visitor_signs_in_with_a_key_that_no_script_can_read(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(key_line("alice", KEY) + "\n")
    (tmp_path / "keys").chmod(0o600)
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(tmp_path / "keys")) as service:
        visit = await new_visit(browser, service)
        await visit.open()
        await visit.page.fill("#key", "ytmp3_wrong")
        await visit.page.click("#sign-in button")
        await expect(visit.page.locator("#notice")).to_contain_text("no valid key")
        await visit.page.fill("#key", KEY)
        await visit.page.click("#sign-in button")
        await expect(visit.page.locator(".sign-out")).to_contain_text("Signed in as alice")
        assert await visit.page.evaluate("document.cookie") == ""
        await visit.convert(LINK)
        await expect(visit.page.locator(".job.completed")).to_have_count(1)
        await visit.page.click(".sign-out button")
        await expect(visit.page.locator("#sign-in")).to_be_visible()
        await expect(visit.page.locator(".job")).to_have_count(0)


async def test_a_shared_link_is_in_the_form_and_starts_nothing(visit: Visit, service: RunningService) -> None:
    await visit.open(f"/share?text=Listen%20to%20this%20https%3A%2F%2Fyoutu.be%2F{VIDEO}")
    await expect(visit.page.locator("#links")).to_have_value(LINK)
    await expect(visit.page.locator(".job")).to_have_count(0)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1000), ("dark", 360)])
async def test_the_page_has_no_barrier_that_axe_knows(
    browser: Browser, service: RunningService, scheme: str, width: int
) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, "bypass_csp": True}
    visit = await new_visit(browser, service, **options)
    service.converter.hold(VIDEO)
    service.converter.fail(video(1), FailureCode.PRIVATE)
    await visit.open()
    await visit.convert(LINK, link(1), link(2), "https://evil.example/")
    for status in ("processing", "failed", "completed"):
        await expect(visit.page.locator(f".job.{status}")).to_have_count(1)
    await visit.page.click("summary")
    results = await Axe().run(visit.page)
    assert results.violations_count == 0, results.generate_report()
    wide = await visit.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, "nothing may stick out of a narrow window"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_reference_leads_to_each_of_its_parts_and_has_no_barrier(
    browser: Browser, service: RunningService, scheme: str
) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": 360, "height": 800}, "bypass_csp": True}
    visit = await new_visit(browser, service, **options)
    await visit.open("/docs")
    await expect(visit.page.get_by_text("/batches/ID/archive.zip").first).to_be_attached()
    addresses = await visit.page.eval_on_selector_all(
        "main a[href^='#']", "all => all.map(a => a.getAttribute('href'))"
    )
    assert len(addresses) > 20
    counts = await visit.page.evaluate("all => all.map(each => document.querySelectorAll(each).length)", addresses)
    assert [address for address, count in zip(addresses, counts, strict=True) if count != 1] == []
    # The page is long, and the schemes differ in their colours only.
    rules = {"runOnly": {"type": "rule", "values": ["color-contrast"]}} if scheme == "dark" else {}
    results = await Axe().run(visit.page, options={"resultTypes": ["violations"], **rules})
    assert results.violations_count == 0, results.generate_report()
    assert await visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert visit.complaints == []
