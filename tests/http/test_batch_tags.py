"""`metadata` of `POST /batches`: each track has its tags, alone and in the archive, and the conversions are shared."""

import asyncio
import io
import json
import random
import time
import unicodedata
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDictProxy

from tests.core.test_tag_edits import edited, texts_of, written
from tests.http.batch_requests import created, ended, get, video
from tests.http.remote_shelf import RemoteShelf
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.stand.links import spellings
from tests.stand.waiting import until
from ytmp3.core.batch import Batch, items_of, tagged
from ytmp3.core.ids import BatchId, ClientId
from ytmp3.core.job import Track
from ytmp3.core.link import parse_video_id
from ytmp3.core.recipe import conversion_key
from ytmp3.core.tag_edits import TagEdits
from ytmp3.engine.batches import Batches
from ytmp3.engine.estimates import Estimates
from ytmp3.engine.events import Events
from ytmp3.http.archive import Archives
from ytmp3.http.body import parse_batch_request, parse_extract_request
from ytmp3.http.edited_tracks import READERS, EditedTracks
from ytmp3.storage import Delivery, ShelfDown

RANGES: Final = 100
URLS: Final = [
    {"url": video(1), "metadata": {"title": "Erstes", "artist": "Me"}},
    video(2),
    "no link",
    {"url": f"https://youtu.be/{video(3)}"},
    {"url": video(1), "metadata": {"title": "Not used"}},
]
METADATA: Final = {"artist": "All", "album": "Album", "track_numbers": True}
EDITS: Final = [
    TagEdits(title="Erstes", artist="Me", album="Album", track_number=1, track_total=5),
    TagEdits(artist="All", album="Album", track_number=2, track_total=5),
    TagEdits(artist="All", album="Album", track_number=4, track_total=5),
]


async def fetch(service: RunningService, path: str, **fields: str) -> tuple[int, CIMultiDictProxy[str], bytes]:
    async with service.client.get(service.url + path, headers=fields) as response:
        return response.status, response.headers, await response.read()


async def tagged_batch(service: RunningService, extension: str, content: bytes) -> dict[str, Any]:
    for number in (1, 2, 3):
        service.converter.contents[video(number)] = content
    batch = await created(service, URLS, metadata=METADATA, format=extension)
    assert batch["tags"] == METADATA | {"cover": True}
    return await ended(service, batch)


@pytest.mark.parametrize("extension", ["mp3", "m4a", "opus"])
async def test_the_archive_has_the_tracks_with_their_tags_and_resumes_at_any_byte(
    tmp_path: Path, extension: str
) -> None:
    content, chance = written(extension), random.Random(7)
    async with running_service(tmp_path / "data") as service:
        batch = await tagged_batch(service, extension, content)
        status, headers, body = await fetch(service, batch["archive_url"])
        assert (status, int(headers["Content-Length"])) == (200, len(body))
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            assert names[0] == f"1 Erstes.{extension}"
            members = [archive.read(name) for name in names[:-1]]
        assert members == [edited(content, edits) for edits in EDITS]
        items = [item for item in (await get(service, batch["items_url"]))["items"] if item["status"] == "completed"]
        for member, item, edits in zip(members, items, EDITS, strict=True):
            assert texts_of(extension, member)[1:3] == [edits.artist, "Album"]
            assert (await fetch(service, item["job"]["download_url"]))[2] == member
            assert item["job"]["tags"]["track_number"] == edits.track_number
        for _ in range(RANGES):
            first, last = sorted(chance.randrange(len(body)) for _ in range(2))
            part = await fetch(
                service, batch["archive_url"], Range=f"bytes={first}-{last}", **{"If-Range": headers["ETag"]}
            )
            assert (part[0], part[2]) == (206, body[first : last + 1])
        assert (await fetch(service, batch["archive_url"], **{"If-None-Match": headers["ETag"]}))[0] == 304


class HangingShelf(RemoteShelf):
    """A shelf that opens no track. The first attempts fail as soon as all readers wait, and later ones never end."""

    def __init__(self) -> None:
        self.opened = 0
        self.all_busy = asyncio.Event()

    async def deliver(self, track: Track, *, may_redirect: bool, may_leave: bool = False) -> Delivery | None:
        self.opened += 1
        if self.opened == READERS:
            self.all_busy.set()
        if self.opened > READERS:
            await asyncio.Event().wait()
        await self.all_busy.wait()
        raise ShelfDown("the disk does not answer")


async def test_the_first_unreadable_track_ends_the_reading_of_tags(tmp_path: Path) -> None:
    count = 5 * READERS
    async with running_service(tmp_path / "data") as service:
        urls = [video(number) for number in range(count)]
        batch = await ended(service, await created(service, urls, metadata={"artist": "All"}))
        shelf = HangingShelf()
        service.parts.sender.shelf = shelf
        await expect_problem(service, "GET", batch["archive_url"], 503, "storage_unavailable")
        assert READERS <= shelf.opened <= 2 * READERS


async def test_an_archive_is_prepared_within_the_transfer_limits(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", CLIENT_MAX_DOWNLOADS="1") as service:
        batch = await ended(service, await created(service, [video(1)], metadata={"artist": "All"}))
        url, shelf, original = batch["archive_url"], HangingShelf(), service.parts.sender.shelf
        service.parts.sender.shelf = shelf
        first = asyncio.create_task(expect_problem(service, "HEAD", url, 503, "storage_unavailable"))
        await until(lambda: shelf.opened == 1, "the first track is being read")
        for method in ("GET", "HEAD"):
            await expect_problem(service, method, url, 429, "client_quota")
        assert shelf.opened == 1
        shelf.all_busy.set()
        await first
        service.parts.sender.shelf = original
        assert service.parts.sender.active == 0
        assert (await fetch(service, url))[0] == 200
        await until(lambda: service.parts.sender.active == 0, "the transfer has ended")
        # The tags are known now.
        service.parts.sender.shelf = HangingShelf()
        with service.parts.sender.transfer_of(ClientId("addr:127.0.0.1")):
            await expect_problem(service, "GET", url, 429, "client_quota")
            async with service.client.head(service.url + url) as response:
                assert response.status == 200


async def test_an_archive_of_more_tracks_than_are_remembered_has_all_of_their_tags(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        batch, parts = await tagged_batch(service, "mp3", written("mp3")), service.parts
        _, headers, body = await fetch(service, batch["archive_url"])
        batches = Batches(
            parts.config.engine,
            store=service.store,
            queue=parts.queue,
            upstream=parts.upstream,
            health=parts.health,
            estimates=Estimates(1, lambda _: 0.0, clock=time.monotonic, random=random.random),
            events=Events(),
        )
        archives = Archives(batches=batches, sender=parts.sender, edited=EditedTracks(parts.sender, remembered=1))
        request = make_mocked_request("HEAD", batch["archive_url"])
        again = await archives.send(request, batch["batch_id"], None, None, ClientId("someone"))
        assert (again.headers["ETag"], again.content_length) == (headers["ETag"], len(body))


async def test_batches_with_other_tags_share_the_conversions_but_not_the_archive(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        content = written("mp3")
        first = await tagged_batch(service, "mp3", content)
        plain = await ended(service, await created(service, [video(1), video(2), video(3)]))
        assert plain["tags"] is None
        assert [service.converter.started[video(number)] for number in (1, 2, 3)] == [1, 1, 1]
        etags = [(await fetch(service, batch["archive_url"]))[1]["ETag"] for batch in (first, plain)]
        assert etags[0] != etags[1]


async def test_a_track_without_room_for_the_tags_is_archived_as_it_is(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        # The fake track of video 2 has no tags at all.
        service.converter.contents[video(1)] = written("mp3")
        batch = await ended(service, await created(service, [video(1), video(2)], metadata=METADATA))
        status, _, body = await fetch(service, batch["archive_url"])
        assert status == 200
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert archive.testzip() is None
            job = await service.completed(video(2))
            assert archive.read(archive.namelist()[1]) == (await fetch(service, job["download_url"]))[2]


async def test_a_repeated_request_gets_the_same_batch_in_every_spelling(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        service.client.headers["Idempotency-Key"] = "k" * 20
        first = await created(service, [video(1), {"url": video(2), "metadata": {"title": "T"}}], quality="192k")
        again = await created(
            service,
            [{"url": video(1), "metadata": {"cover": True}}, {"metadata": {"title": " T "}, "url": video(2)}],
            metadata={"artist": None, "track_numbers": False},
        )
        assert again["batch_id"] == first["batch_id"]
        for other in (
            {"urls": [video(1), video(2)]},
            {"urls": [video(1), {"url": video(2), "metadata": {"title": "T"}}], "metadata": {"track_numbers": True}},
        ):
            await expect_problem(service, "POST", "/batches", 422, "idempotency_key_reused", json=other)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"urls": [{"url": video(1), "metadata": {"title": ""}}]}, "urls.0.metadata.title"),
        ({"urls": [video(2), {"url": video(1), "metadata": {"track_numbers": True}}]}, "urls.1.metadata"),
        ({"urls": [{"url": video(1), "metadata": 7}]}, "urls.0.metadata"),
        ({"urls": [video(2), {"link": video(1)}]}, "urls.1"),
        ({"urls": [{"url": 7}]}, "urls.0"),
        ({"urls": [{"url": video(1), "metadata": {"title": "x"}, "quality": "192k"}]}, "urls.0"),
        ({"urls": [video(1), video(2), 5, None]}, "urls.2"),
        ({"urls": [{"url": 7, "metadata": {"title": ""}}]}, "urls.0"),
        ({"urls": [video(1)], "metadata": {"title": "x"}}, "metadata"),
        ({"urls": [video(1)], "metadata": {"artist": "\x00"}}, "metadata.artist"),
        ({"urls": [video(1)], "metadata": {"track_numbers": 1}}, "metadata.track_numbers"),
        ({"urls": [video(1)], "metadata": []}, "metadata"),
        ({"urls": [video(1)], "chapters": video(1)}, "urls"),
        ({"chapters": 7}, "chapters"),
        ({"chapters": video(1), "format": "m4a"}, "chapters"),
        ({"chapters": video(1), "start": 5}, "chapters"),
        ({"urls": [video(1)], "split": True}, "chapters"),
    ],
)
async def test_a_wrong_field_is_named(tmp_path: Path, fields: dict[str, Any], field: str) -> None:
    async with running_service(tmp_path / "data") as service:
        async with service.client.post(f"{service.url}/batches", json=fields) as response:
            problem = await response.json()
        assert (response.status, problem["code"], problem.get("field")) == (400, "invalid_field", field)


async def test_a_video_without_chapters_is_reported(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        async with service.client.post(f"{service.url}/batches", json={"chapters": f"youtu.be/{video(1)}"}) as response:
            assert response.status == 202
            batch = await response.json()
        assert batch["status"] == "listing"
        assert batch["chapters"] == {
            "url": f"https://www.youtube.com/watch?v={video(1)}",
            "title": None,
            "is_truncated": False,
        }
        now = await ended(service, batch)
        assert (now["status"], now["error"]["code"], now["playlist"]) == ("failed", "no_chapters", None)
        for link, code in (("https://www.youtube.com/@someone", "not_a_video"), ("x", "unsupported_url")):
            await expect_problem(service, "POST", "/batches", 422, code, json={"chapters": link})


_TEXTS: Final = st.one_of(st.none(), st.sampled_from(["T", " T", "T ", "e\u0301", "\u00e9", "\U0001f3b6"]))


@given(
    st.lists(st.tuples(_TEXTS, _TEXTS, st.sampled_from([None, True, False])), min_size=1, max_size=3),
    st.booleans(),
)
def test_every_spelling_of_a_request_is_the_same_request(rows: list[tuple[Any, Any, Any]], is_whole: bool) -> None:
    """Missing, null and default values, white space and compositions of characters make no difference."""

    def spelled(*, is_short: bool) -> bytes:
        urls: list[object] = []
        for number, (title, artist, cover) in enumerate(rows):
            metadata = {"title": title, "artist": artist, "cover": cover}
            if is_short:
                given = {name: value for name, value in metadata.items() if value is not None and value is not True}
                given = {n: v if v is False else unicodedata.normalize("NFC", v.strip()) for n, v in given.items()}
                urls.append({"url": video(number), "metadata": given} if given else video(number))
            else:
                urls.append({"metadata": metadata | {"album": None}, "url": video(number)})
        more = {} if is_short else {"metadata": {"cover": True, "track_numbers": None} if is_whole else None}
        return json.dumps({"urls": urls} | more).encode()

    short, long = (parse_batch_request(spelled(is_short=is_short)) for is_short in (True, False))
    assert short.fingerprint == long.fingerprint
    assert (short.lines, short.tags, short.recipe) == (long.lines, long.tags, long.recipe)


@given(
    st.sampled_from(spellings(video(1))),
    st.sampled_from([{}, {"quality": 192}, {"quality": "192K"}, {"format": ".MP3", "language": "Original"}]),
    st.fixed_dictionaries(
        {}, optional={"title": _TEXTS, "artist": _TEXTS, "cover": st.booleans(), "track_number": st.integers(1, 9999)}
    ),
    st.fixed_dictionaries({}, optional={"album": _TEXTS, "cover": st.booleans(), "track_numbers": st.booleans()}),
)
def test_every_spelling_of_a_link_with_any_tags_has_one_key(
    link: str, recipe: dict[str, object], own: dict[str, object], common: dict[str, object]
) -> None:
    body = {"urls": [{"url": link, "metadata": own}], "metadata": common} | recipe
    wanted = parse_batch_request(json.dumps(body).encode())
    (item,) = tagged(items_of(line.link for line in wanted.lines), wanted.tags)
    batch = Batch(
        batch_id=BatchId("b"),
        client=ClientId("c"),
        recipe_spelling=wanted.recipe.spelling,
        marks="w",
        due_at=0,
        created_at=0,
        retention_seconds=1,
    )
    assert batch.key(item) == f"youtube:{video(1)}:mp3-192k"
    single = parse_extract_request(json.dumps({"url": link, "metadata": own} | recipe).encode())
    assert conversion_key(parse_video_id(single.url), single.recipe) == batch.key(item)
