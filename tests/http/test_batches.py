"""The routes of batches: many links as one resource."""

from pathlib import Path
from typing import Any

import pytest

from tests.http.batch_requests import created, ended, get, video
from tests.http.responses import expect_problem
from tests.http.running_service import POLL_SECONDS, running_service
from tests.stand.waiting import until
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.ids import VideoId
from ytmp3.core.playlist import Entry, Listing
from ytmp3.http.batch_api import PAGE_ITEMS


async def test_a_batch_reports_each_line_and_its_job(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        batch = await created(
            service, [video(1), "https://example.org/", f"https://youtu.be/{video(2)}", video(1)], quality="v0"
        )
        assert (batch["status"], batch["quality"]) == ("running", "V0")
        assert batch["counts"]["total"] == 4
        assert batch["eta_seconds"] > 0
        now = await ended(service, batch)
        assert now["status"] == "completed"
        assert now["expires_at"] is not None
        assert now["eta_seconds"] is None
        counts = now["counts"]
        assert (counts["completed"], counts["refused"], counts["duplicate"], counts["total"]) == (2, 1, 1, 4)
        page = await get(service, batch["items_url"])
        assert page["next_url"] is None
        items = page["items"]
        assert [item["index"] for item in items] == [0, 1, 2, 3]
        assert [item["status"] for item in items] == ["completed", "refused", "completed", "duplicate"]
        assert items[1]["error"]["code"] == "unsupported_url"
        assert (items[1]["job"], items[1]["video_id"]) == (None, None)
        assert items[3]["duplicate_of"] == 0
        assert items[3]["job"]["job_id"] == items[0]["job"]["job_id"]
        job = await get(service, items[0]["job"]["status_url"])
        assert (job["batch_id"], job["quality"]) == (batch["batch_id"], "V0")
        assert (await service.completed(video(1)))["batch_id"] is None


async def test_items_whose_jobs_cannot_be_read_are_named(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        batch = await ended(service, await created(service, [video(1), video(2)]))
        first, second = (await get(service, batch["items_url"]))["items"]
        service.store.unread = {first["job"]["job_id"]}
        page = await get(service, batch["items_url"])
        assert page["unavailable"] == [first["job"]["job_id"]]
        assert page["items"] == [first | {"job": None}, second]
        await expect_problem(service, "GET", batch["archive_url"], 503, "store_unavailable")


async def test_a_batch_of_copies_makes_copies(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        batch = await created(service, [video(1), video(2)], format="opus")
        assert (batch["format"], batch["quality"]) == ("opus", None)
        now = await ended(service, batch)
        assert now["counts"]["completed"] == 2
        for item in (await get(service, now["items_url"]))["items"]:
            assert (item["job"]["format"], item["job"]["quality"]) == ("opus", None)
            assert item["job"]["download_url"].endswith(".opus")


async def test_items_come_in_pages_in_a_stable_order(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        count = 2 * PAGE_ITEMS + 3
        batch = await created(service, [video(number) for number in range(count)])
        seen: list[int] = []
        url: str | None = batch["items_url"]
        while url is not None:
            page = await get(service, url)
            seen += [item["index"] for item in page["items"]]
            url = page["next_url"]
        assert seen == list(range(count))
        assert (await get(service, f"{batch['items_url']}?cursor=99999"))["items"] == []
        for cursor in ("-1", "x", "1.0", "1e3", "", "9999999", "1&cursor=2", "%00"):
            await expect_problem(service, "GET", f"{batch['items_url']}?cursor={cursor}", 400, "invalid_cursor")


async def test_a_batch_is_cancelled(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        for number in range(30):
            service.converter.hold(video(number))
        batch = await created(service, [video(number) for number in range(30)])
        await until(lambda: len(service.converter.running) > 0, "a conversion runs", poll_seconds=POLL_SECONDS)
        async with service.client.delete(service.url + batch["status_url"]) as response:
            assert response.status == 200
            cancelled = await response.json()
        assert cancelled["status"] == "cancelled"
        assert cancelled["counts"]["waiting"] == 0
        now = await ended(service, batch)
        assert now["counts"]["cancelled"] == 30
        await until(lambda: not service.converter.running, "no conversion runs", poll_seconds=POLL_SECONDS)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "invalid_field", "urls"),
        ({"urls": []}, "invalid_field", "urls"),
        ({"urls": "https://youtu.be/video000001"}, "invalid_field", "urls"),
        ({"urls": [1]}, "invalid_field", "urls.0"),
        ({"urls": [["video000001"]]}, "invalid_field", "urls.0"),
        ({"urls": {"a": "b"}}, "invalid_field", "urls"),
        ({"urls": None}, "invalid_field", "urls"),
        ({"urls": ["video000001"], "quality": "loud"}, "invalid_field", "quality"),
        ({"urls": ["video000001"], "format": "wav"}, "invalid_field", "format"),
        ({"urls": ["video000001"], "format": "m4a", "quality": "192k"}, "invalid_field", "quality"),
        ({"links": ["video000001"]}, "invalid_field", "urls"),
        ({"urls": ["video000001"], "priority": 1}, "invalid_field", None),
    ],
)
async def test_a_malformed_batch_is_refused(tmp_path: Path, body: dict[str, Any], code: str, field: str | None) -> None:
    async with (
        running_service(tmp_path / "data") as service,
        service.client.post(f"{service.url}/batches", json=body) as response,
    ):
        problem = await response.json()
        assert (response.status, problem["code"], problem.get("field")) == (400, code, field)


async def test_lists_that_are_too_long_or_without_a_video_are_refused(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", BATCH_MAX_ITEMS="3") as service:
        four = {"urls": [video(number) for number in range(4)]}
        await expect_problem(service, "POST", "/batches", 422, "too_many_items", json=four)
        none = {"urls": ["https://example.org", "x"]}
        await expect_problem(service, "POST", "/batches", 422, "nothing_to_convert", json=none)
        large = {"urls": ["x" * 300_000]}
        await expect_problem(service, "POST", "/batches", 413, "body_too_large", json=large)
        for method, path in (("GET", ""), ("GET", "/items"), ("DELETE", "")):
            for batch_id in ("0" * 34, "x", "%00", "..%2f", "0" * 33 + "G"):
                await expect_problem(service, method, f"/batches/{batch_id}{path}", 404, "batch_unknown")


async def test_a_thousand_links_are_accepted_in_one_request(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        links = [f"https://www.youtube.com/watch?v={video(n)}&list=PL{'x' * 32}&index={n}" for n in range(1000)]
        batch = await created(service, links)
        assert batch["counts"]["total"] == 1000
        assert batch["counts"]["refused"] == 0
        await until(lambda: bool(service.converter.converted), "the first is converted", poll_seconds=POLL_SECONDS)
        assert service.parts.queue.qsize() <= 20
        async with service.client.delete(service.url + batch["status_url"]) as response:
            assert response.status == 200
        await ended(service, batch)


async def test_a_playlist_becomes_a_batch(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        url = "https://www.youtube.com/playlist?list=PLBCF2DAC6FFB574DE"
        entries = tuple(Entry(video_id=VideoId(video(number))) for number in range(3))
        service.converter.playlists[url] = Listing(title="Songs", entries=entries, is_truncated=True)
        body = {"playlist": "youtube.com/playlist?list=PLBCF2DAC6FFB574DE"}
        async with service.client.post(f"{service.url}/batches", json=body) as response:
            batch = await response.json()
            assert (response.status, batch["status"], batch["archive_url"]) == (202, "listing", None)
        now = await ended(service, batch)
        assert now["playlist"] == {"url": url, "title": "Songs", "is_truncated": True}
        assert (now["status"], now["counts"]["completed"], now["error"]) == ("completed", 3, None)
        service.converter.playlists[url] = ConversionError(FailureCode.VIDEO_UNAVAILABLE)
        async with service.client.post(f"{service.url}/batches", json=body) as response:
            now = await ended(service, await response.json())
        assert (now["status"], now["error"]["code"], now["archive_url"]) == ("failed", "playlist_unavailable", None)
        await expect_problem(service, "GET", f"{now['status_url']}/archive.zip", 410, "no_tracks")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"playlist": "https://www.youtube.com/watch?v=a&list=RDdQw4w9WgXcQ"}, 422, "playlist_endless"),
        ({"playlist": "https://www.youtube.com/playlist?list=WL"}, 422, "playlist_personal"),
        ({"playlist": "https://youtu.be/dQw4w9WgXcQ"}, 422, "not_a_playlist"),
        ({"playlist": "https://example.org/"}, 422, "unsupported_url"),
        ({"playlist": 1}, 400, "invalid_field"),
        ({"playlist": "https://www.youtube.com/@a", "urls": ["dQw4w9WgXcQ"]}, 400, "invalid_field"),
    ],
)
async def test_other_playlists_are_refused(tmp_path: Path, body: dict[str, Any], status: int, code: str) -> None:
    async with running_service(tmp_path / "data") as service:
        await expect_problem(service, "POST", "/batches", status, code, json=body)
