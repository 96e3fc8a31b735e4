"""`metadata` of `POST /extract`: one conversion, and for each job the tags that its client has chosen."""

import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Final

from multidict import CIMultiDictProxy

from tests.core.test_tag_edits import COVER, EVERYTHING, LONGEST, SOUNDS, edited, texts_of, written
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService
from tests.http.test_client_lists import ALICE, with_keys
from tests.stand.waiting import until
from ytmp3.core.job import Track
from ytmp3.core.tag_edits import TagEdits
from ytmp3.http.edited_tracks import EditedTrack, EditedTracks
from ytmp3.storage import OpenFile

VIDEO: Final = "dQw4w9WgXcQ"
EDITS: Final = {"title": "Mine/Ours", "artist": "Me", "cover": False}
ONLY_TEXTS: Final = TagEdits(title="Mine/Ours", artist="Me", cover=False)


async def submit(
    service: RunningService, metadata: object, status: tuple[int, ...] = (200, 202), **more: Any
) -> dict[str, Any]:
    body = {"url": f"https://youtu.be/{VIDEO}", "metadata": metadata} | more.pop("fields", {})
    async with service.client.post(f"{service.url}/extract", json=body, **more) as response:
        assert response.status in status, await response.text()
        job: dict[str, Any] = await response.json()
        return job


async def fetch(
    service: RunningService, job: dict[str, Any], **fields: str
) -> tuple[int, bytes, CIMultiDictProxy[str]]:
    async with service.client.get(service.url + job["download_url"], headers=fields) as response:
        return response.status, await response.read(), response.headers


async def test_each_job_gets_its_own_tags_of_one_conversion(service: RunningService) -> None:
    for extension in ("mp3", "m4a", "opus"):
        content = service.converter.contents[VIDEO] = written(extension)
        service.converter.started.clear()
        gate = service.converter.hold(VIDEO)
        gate.clear()
        first = await submit(service, EDITS, fields={"format": extension})
        await until(lambda: bool(service.converter.started[VIDEO]), "it runs")
        plain = await service.submit(VIDEO, format=extension)
        gate.set()
        await service.ended(first["job_id"])
        second = await submit(
            service, {"title": LONGEST, "artist": LONGEST[::-1], "album": LONGEST}, fields={"format": extension}
        )
        jobs = [await service.ended(job["job_id"]) for job in (plain, first, second)]
        assert service.converter.started[VIDEO] == 1
        assert [job["metadata"]["artist"] for job in jobs] == [None, "Me", LONGEST[::-1]]
        assert [job["file"]["size_bytes"] for job in jobs] == [len(content)] * 3
        assert [job["file"]["sha256"] is None for job in jobs] == [False, True, True]
        expected = [content, edited(content, ONLY_TEXTS), edited(content, EVERYTHING)]
        etags = set()
        for job, whole in zip(jobs, expected, strict=True):
            status, body, headers = await fetch(service, job)
            assert (status, body) == (200, whole)
            assert headers["Content-Length"] == str(len(content))
            etags.add(headers["ETag"])
        assert len(etags) == 3
        assert texts_of(extension, expected[1])[:2] == ["Mine/Ours", "Me"]


async def test_ranges_conditions_and_names_are_those_of_the_edited_track(service: RunningService) -> None:
    content = service.converter.contents[VIDEO] = written("mp3")
    plain = await service.completed(VIDEO)
    job = await submit(service, EDITS)
    whole = edited(content, ONLY_TEXTS)
    _, _, headers = await fetch(service, job)
    etag, size = headers["ETag"], len(whole)
    assert headers["Content-Disposition"].startswith('attachment; filename="Mine Ours.mp3"')
    tag_end = size - len(SOUNDS["mp3"])
    for first, last in ((0, 5), (5, 15), (9, 9), (10, size - 1), (tag_end - 1, tag_end + 2), (size - 1, size - 1)):
        status, body, headers = await fetch(service, job, Range=f"bytes={first}-{last}")
        assert (status, body) == (206, whole[first : last + 1]), (first, last)
        assert (headers["Content-Range"], headers["ETag"]) == (f"bytes {first}-{last}/{size}", etag)
    _, _, other = await fetch(service, plain)
    assert other["ETag"] != etag
    for known, status in ((etag, 206), (other["ETag"], 200)):
        assert (await fetch(service, job, Range="bytes=3-", **{"If-Range": known}))[0] == status
    assert (await fetch(service, job, **{"If-None-Match": etag}))[:2] == (304, b"")
    assert (await fetch(service, job, **{"If-Match": other["ETag"]}))[0] == 412
    assert (await fetch(service, job, Range=f"bytes={size}-"))[0] == 416
    async with service.client.head(service.url + job["download_url"]) as response:
        assert (response.status, response.headers["ETag"]) == (200, etag)
        assert response.headers["Content-Length"] == str(size)
    for each, status in ((plain, 200), (job, 204)):
        async with service.client.get(f"{service.url}/cover/{each['job_id']}.jpg") as response:
            assert (response.status, await response.read()) == (status, COVER if status == 200 else b"")


async def test_a_track_that_cannot_take_the_texts_is_gone(service: RunningService) -> None:
    job = await submit(service, EDITS)
    job = await service.ended(job["job_id"])  # the fake track has no tags at all
    await expect_problem(service, "GET", job["download_url"], 410, "expired")
    (track,) = (service.data_dir / "tracks").glob("*.mp3")
    track.unlink()
    await expect_problem(service, "GET", job["download_url"], 410, "expired")


async def test_metadata_is_part_of_an_idempotent_request(service: RunningService) -> None:
    key = {"Idempotency-Key": "k" * 20}
    first = await submit(service, EDITS, headers=key)
    assert (await submit(service, EDITS | {"album": None}, headers=key))["job_id"] == first["job_id"]
    assert (await submit(service, {"title": "Other"}, (422,), headers=key))["code"] == "idempotency_key_reused"
    assert (await submit(service, None, (422,), headers=key))["code"] == "idempotency_key_reused"
    key = {"Idempotency-Key": "l" * 20}
    plain = await submit(service, None, headers=key)
    for usual in ({"cover": True}, {"title": None, "cover": None}):
        assert (await submit(service, usual, headers=key))["job_id"] == plain["job_id"]


async def test_wrong_metadata_is_refused_with_the_name_of_the_field(service: RunningService) -> None:
    for metadata, field in (
        ("x", "metadata"),
        ([["title", "x"]], "metadata"),
        ({"titel": "x"}, "metadata"),
        ({"title": ""}, "metadata.title"),
        ({"title": "  "}, "metadata.title"),
        ({"title": "a\nb"}, "metadata.title"),
        ({"title": "a", "artist": "\u202ex"}, "metadata.artist"),
        ({"album": "x" * 201}, "metadata.album"),
        ({"album": 7}, "metadata.album"),
        ({"cover": "no"}, "metadata.cover"),
    ):
        problem = await submit(service, metadata, (400,))
        assert (problem["code"], problem["field"]) == ("invalid_field", field), metadata
        assert "x" * 20 not in problem["detail"]
    twice = b'{"url": "https://youtu.be/dQw4w9WgXcQ", "metadata": {"title": "a", "title": "b"}}'
    json = {"Content-Type": "application/json"}
    await expect_problem(service, "POST", "/extract", 400, "invalid_field", data=twice, headers=json)
    # The longest texts are accepted, also where JSON needs twelve bytes for a character.
    await submit(service, dict.fromkeys(("title", "artist", "album"), "\U0001f3b6" * 200))


async def test_the_feed_has_the_chosen_names(tmp_path: Path) -> None:
    async with with_keys(tmp_path) as service:
        content = service.converter.contents[VIDEO] = written("mp3")
        job = await submit(service, EDITS, headers=ALICE)
        service.client.headers.update(ALICE)
        await service.ended(job["job_id"])
        async with service.client.post(f"{service.url}/feed") as response:
            address = (await response.json())["feed_url"]
        async with service.client.get(address) as response:
            (item,) = ET.fromstring(await response.read()).iter("item")
        assert item.findtext("title") == "Mine/Ours"
        assert item.findtext("{http://www.itunes.com/dtds/podcast-1.0.dtd}author") == "Me"
        enclosure = item.find("enclosure")
        assert enclosure is not None
        async with service.client.get(enclosure.attrib["url"]) as response:
            assert await response.read() == edited(content, ONLY_TEXTS)
            assert response.headers["Content-Length"] == enclosure.attrib["length"]


async def test_the_tags_of_a_file_are_read_only_for_responses_that_contain_them(
    service: RunningService, tmp_path: Path
) -> None:
    content, track = written("mp3"), (await service.completed(VIDEO))["file"]
    (tmp_path / "track").write_bytes(content)
    tracks = EditedTracks(service.parts.sender, remembered=2)
    stored = Track(file_name="t", size_bytes=len(content), duration_seconds=1, sha256=track["sha256"], published_at=0)
    descriptor = os.open(tmp_path / "track", os.O_RDONLY)
    try:
        source = OpenFile(descriptor)
        for _ in range(3):
            facts = await tracks.facts(source, stored, ONLY_TEXTS)
        assert tracks.reads == 1
        assert isinstance(facts, EditedTrack)
        assert await tracks.parts(source, stored, ONLY_TEXTS, facts.end, len(content)) == [
            (facts.end, len(content) - facts.end)
        ]
        assert await tracks.parts(source, stored, ONLY_TEXTS, 5, 5) == []
        assert tracks.reads == 1
        first, second = await tracks.parts(source, stored, ONLY_TEXTS, 0, facts.start + 4)
        assert (first, second) == ((0, facts.start), edited(content, ONLY_TEXTS)[facts.start : facts.start + 4])
        assert tracks.reads == 2
        for other in (TagEdits(title="A"), TagEdits(title="B")):
            await tracks.facts(source, stored, other)
        assert tracks.known(stored, ONLY_TEXTS) is None, "the least recently used facts are forgotten"
    finally:
        os.close(descriptor)


async def test_a_job_says_which_tags_were_chosen_in_the_form_of_a_request(service: RunningService) -> None:
    plain = await service.submit(VIDEO)
    assert plain["tags"] is None
    first = await submit(service, EDITS | {"track_number": 3, "track_total": 12})
    assert first["tags"] == EDITS | {"album": None, "track_number": 3, "track_total": 12}
    again = await submit(service, first["tags"])
    assert again["tags"] == first["tags"]


async def test_wrong_track_numbers_are_refused(service: RunningService) -> None:
    for metadata, field in (
        ({"track_number": 0}, "metadata.track_number"),
        ({"track_number": 10_000}, "metadata.track_number"),
        ({"track_number": "1"}, "metadata.track_number"),
        ({"track_number": True}, "metadata.track_number"),
        ({"track_total": 3}, "metadata.track_total"),
        ({"track_number": 4, "track_total": 3}, "metadata.track_total"),
        ({"track_total": 12, "track_number": 0}, "metadata.track_number"),
        ({"track_total": 0, "track_number": 3}, "metadata.track_total"),
        ({"track_total": 12, "title": ""}, "metadata.title"),
        ({"track_numbers": True}, "metadata"),
    ):
        problem = await submit(service, metadata, (400,))
        assert (problem["code"], problem["field"]) == ("invalid_field", field), metadata
