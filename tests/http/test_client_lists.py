"""`GET /jobs` and the podcast feed: the owner's jobs alone, page by page; a token that is replaced and deleted."""

import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fakes import content_of
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import until
from ytmp3.app import read_keys
from ytmp3.http.client_handlers import MAX_LIMIT
from ytmp3.http.keys import key_line

ALICE: Final = {"X-API-Key": "alices-secret"}
BOB: Final = {"X-API-Key": "bobs-secret"}
VIDEOS: Final = ("dQw4w9WgXcQ", "aqz-KE-bpKQ", "jNQXAC9IVRw")
TOKEN: Final = "0" * 50
ITUNES: Final = "{http://www.itunes.com/dtds/podcast-1.0.dtd}"


@asynccontextmanager
async def with_keys(folder: Path, **settings: str) -> AsyncIterator[RunningService]:
    keys = folder / "keys"
    keys.write_text(f"{key_line('alice', 'alices-secret')}\n{key_line('bob', 'bobs-secret')}\n")
    async with running_service(folder / "data", API_KEYS_FILE=str(keys), **settings) as service:
        yield service


async def convert(service: RunningService, video: str, headers: dict[str, str]) -> dict[str, Any]:
    """Have a video converted by the owner of a key; return the completed job."""
    job: dict[str, Any] = {}
    body = {"url": f"https://youtu.be/{video}"}
    async with service.client.post(f"{service.url}/extract", json=body, headers=headers) as response:
        job |= await response.json()

    async def is_completed() -> bool:
        async with service.client.get(f"{service.url}/status/{job['job_id']}", headers=headers) as response:
            job.update(await response.json())
        return bool(job["status"] == "completed")

    await until(is_completed, f"{video} is converted")
    return job


async def page(service: RunningService, query: str = "", headers: dict[str, str] = ALICE) -> dict[str, Any]:
    async with service.client.get(f"{service.url}/jobs{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        document: dict[str, Any] = await response.json()
        return document


async def test_the_owner_of_a_key_lists_its_jobs_page_by_page(tmp_path: Path) -> None:
    async with with_keys(tmp_path) as service:
        assert await page(service) == {"jobs": [], "next_url": None, "unavailable": []}
        # A job that joins a finished conversion would change when that expires, so the other owner's job is first.
        await convert(service, VIDEOS[0], BOB)
        mine = [await convert(service, video, ALICE) for video in VIDEOS]
        assert (await page(service))["jobs"] == mine[::-1]
        first = await page(service, "?limit=2")
        assert first["jobs"] == mine[:0:-1]
        assert first["next_url"].startswith("/jobs?limit=2&cursor=")
        rest = await page(service, first["next_url"].removeprefix("/jobs"))
        assert rest == {"jobs": mine[:1], "next_url": None, "unavailable": []}
        await expect_problem(service, "GET", "/jobs", 401, "unauthorized")


@pytest.mark.parametrize(
    "query",
    ["limit=0", f"limit={MAX_LIMIT + 1}", "limit=x", "limit=1&limit=2", "limit=-1", "limit=%C2%B2", "cursor=x",
     "cursor=", f"cursor=1.5-{'0' * 33}", f"cursor=inf-{'0' * 34}", f"cursor=1.5-{'0' * 34}&cursor=1.5-{'0' * 34}"],
)  # fmt: skip
async def test_a_malformed_page_is_refused(tmp_path: Path, query: str) -> None:
    async with with_keys(tmp_path) as service:
        code = "invalid_field" if query.startswith("limit") else "invalid_cursor"
        await expect_problem(service, "GET", f"/jobs?{query}", 400, code, headers=ALICE)


async def test_without_keys_there_is_no_owner_and_so_no_list_and_no_feed(service: RunningService) -> None:
    for method, path in (("GET", "/jobs"), ("POST", "/feed"), ("DELETE", "/feed")):
        await expect_problem(service, method, path, 403, "keys_not_in_use")
    await expect_problem(service, "GET", f"/feed/{TOKEN}.xml", 404, "feed_unknown")


async def new_feed(service: RunningService, headers: dict[str, str] = ALICE) -> str:
    async with service.client.post(f"{service.url}/feed", headers=headers) as response:
        assert response.status == 201
        url: str = (await response.json())["feed_url"]
        assert url.startswith(f"{service.url}/feed/")
        return url


async def test_a_page_without_a_part_of_the_store_names_the_jobs_that_are_missing(tmp_path: Path) -> None:
    async with with_keys(tmp_path) as service:
        feed = await new_feed(service)
        mine = [await convert(service, video, ALICE) for video in VIDEOS]
        service.store.unread = {mine[1]["job_id"]}
        found = await page(service)
        assert (found["jobs"], found["unavailable"]) == ([mine[2], mine[0]], [mine[1]["job_id"]])
        first = await page(service, "?limit=2")
        assert (first["jobs"], first["unavailable"]) == ([mine[2]], [mine[1]["job_id"]])
        assert first["next_url"] is not None
        service.store.unread = {mine[2]["job_id"]}
        first = await page(service, "?limit=1")
        assert (first["jobs"], first["unavailable"]) == ([], [mine[2]["job_id"]])
        assert (await page(service, first["next_url"].partition("/jobs")[2]))["jobs"] == [mine[1]]
        # Podcast apps may remove tracks that a feed does not have, so there is none for the moment.
        await expect_problem(service, "GET", feed.removeprefix(service.url), 503, "store_unavailable")
        service.store.unread = set()
        assert (await page(service))["jobs"] == mine[::-1]
        assert len(await items_of(service, feed)) == len(mine)


async def items_of(service: RunningService, url: str) -> list[ET.Element]:
    async with service.client.get(url) as response:
        assert (response.status, response.content_type) == (200, "application/rss+xml")
        return ET.fromstring(await response.text()).findall("channel/item")


async def test_a_feed_has_the_owners_tracks_and_gives_access_to_them(tmp_path: Path) -> None:
    async with with_keys(tmp_path) as service:
        url = await new_feed(service)
        assert await items_of(service, url) == []
        jobs = [await convert(service, video, ALICE) for video in VIDEOS[:2]]
        again = await convert(service, VIDEOS[0], ALICE)
        others = await convert(service, VIDEOS[2], BOB)
        items = await items_of(service, url)
        assert [item.findtext("guid") for item in items] == [again["job_id"], jobs[1]["job_id"]], "each track once"
        for item, job, video in zip(items, (again, jobs[1]), VIDEOS, strict=False):
            assert item.findtext("title") == job["metadata"]["title"]
            assert item.findtext(f"{ITUNES}duration") == "3"
            enclosure = item.find("enclosure")
            assert enclosure is not None
            assert (enclosure.get("type"), enclosure.get("length")) == ("audio/mpeg", str(job["file"]["size_bytes"]))
            async with service.client.get(enclosure.get("url", "")) as response:
                assert (response.status, await response.read()) == (200, content_of(video))
            part = {"Range": "bytes=0-9"}
            async with service.client.get(enclosure.get("url", ""), headers=part) as response:
                assert (response.status, await response.read()) == (206, content_of(video)[:10])
        base = url.removeprefix(service.url).removesuffix(".xml")
        for path in (f"{base}/{others['job_id']}.mp3", f"{base}/{'0' * 34}.mp3", f"{base}/x.mp3"):
            await expect_problem(service, "GET", path, 404, "job_unknown")
        await expect_problem(service, "GET", f"{base}/{again['job_id']}.m4a", 404, "not_found")
        await expect_problem(service, "GET", f"/feed/{TOKEN}/{again['job_id']}.mp3", 404, "feed_unknown")


async def test_a_token_ends_when_it_is_replaced_or_deleted_or_its_key_is_removed(tmp_path: Path) -> None:
    async with with_keys(tmp_path) as service:
        first, second = await new_feed(service), await new_feed(service)
        bobs = await new_feed(service, BOB)
        assert len({first, second, bobs}) == 3
        await expect_problem(service, "GET", first.removeprefix(service.url), 404, "feed_unknown")
        assert await items_of(service, second) == []
        for _ in range(2):
            async with service.client.delete(f"{service.url}/feed", headers=ALICE) as response:
                assert (response.status, await response.read()) == (204, b"")
        await expect_problem(service, "GET", second.removeprefix(service.url), 404, "feed_unknown")
        assert await items_of(service, bobs) == []
        keys = tmp_path / "keys"
        keys.write_text(key_line("alice", "alices-secret"))
        service.parts.keys.replace(read_keys(keys) or ())
        await expect_problem(service, "GET", bobs.removeprefix(service.url), 404, "feed_unknown")
        for path in (f"/feed/{TOKEN}", f"/feed/{TOKEN}.mp3", "/feed/x.xml", "/feed/%00.xml", "/feed/..%2f.xml"):
            await expect_problem(service, "GET", path, 404, "feed_unknown")


async def test_the_address_of_a_feed_begins_with_the_public_url_and_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with with_keys(tmp_path, PUBLIC_URL="https://music.example/ytmp3/", ACCESS_LOG="on") as service:
        async with service.client.post(f"{service.url}/feed", headers=ALICE) as response:
            url: str = (await response.json())["feed_url"]
        assert url.startswith("https://music.example/ytmp3/feed/")
        job = await convert(service, VIDEOS[0], ALICE)
        path = url.removeprefix("https://music.example/ytmp3")
        (item,) = await items_of(service, service.url + path)
        enclosure = item.find("enclosure")
        assert enclosure is not None
        assert enclosure.get("url") == f"{url.removesuffix('.xml')}/{job['job_id']}.mp3"
        token = path.removeprefix("/feed/").removesuffix(".xml")
        assert len(token) == len(TOKEN)
        assert token not in " ".join(str(vars(record)) for record in caplog.records)
