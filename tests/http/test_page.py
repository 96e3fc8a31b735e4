"""The web page: what it sends, its form without scripts, and signing in where API keys are in use."""

import gzip
import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import make_mocked_request

from tests.http.responses import expect_problem
from tests.http.running_service import TITLE, RunningService, running_service
from ytmp3.core.errors import QueueFull
from ytmp3.http.keys import Keys, key_line, new_secret, parse_keys
from ytmp3.http.page.handlers import MAX_FORM_BYTES, MAX_FORM_LINKS
from ytmp3.http.page.sessions import COOKIE, SESSION_SECONDS, Sessions, SessionSigner
from ytmp3.serve import reload_keys

VIDEO = "dQw4w9WgXcQ"
ALICE, BOB = new_secret(b"a" * 24), new_secret(b"b" * 24)
SECRET = b"s" * 32
MAX_PAGE_BYTES: Final = 40_000
"""Most bytes of the whole page, compressed."""


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"{key_line('alice', ALICE)}\n{key_line('bob', BOB)}\n")
    return path


@pytest.fixture
async def guarded(tmp_path: Path, keys_file: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(keys_file)) as running:
        yield running


async def page_of(service: RunningService, path: str = "/", status: int = 200, **request: Any) -> str:
    async with service.client.get(service.url + path, **request) as response:
        assert response.status == status
        return await expect_page(response)


async def expect_page(response: ClientResponse) -> str:
    assert response.content_type == "text/html"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    return await response.text()


async def send_form(service: RunningService, path: str, status: int, fields: dict[str, str], **headers: str) -> Any:
    """POST a form; return the response, whose body has been read."""
    async with service.client.post(service.url + path, data=fields, headers=headers, allow_redirects=False) as response:
        await response.read()
        assert response.status == status, await response.text()
        return response


async def sign_in(service: RunningService, secret: str) -> dict[str, str]:
    """Sign in; return the header with the session's cookie."""
    response = await send_form(service, "/sign-in", 303, {"key": secret})
    assert response.headers["Location"] == "/"
    cookie: Any = SimpleCookie(response.headers["Set-Cookie"])[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert secret not in cookie.value
    return {"Cookie": f"{COOKIE}={cookie.value}"}


async def test_every_file_that_the_page_names_is_there_compressed_and_cached_for_ever(service: RunningService) -> None:
    page = await page_of(service)
    assert "<script>" not in page
    assert " style=" not in page
    wanted = set(re.findall(r'(?:src|href)="(/page/[^"]+)"', page))
    assert {name.rpartition("/")[2] for name in wanted} == {"app.js", "icon.svg", "style.css"}
    total = len(gzip.compress(page.encode()))
    seen: set[str] = set()
    while wanted - seen:
        path = (wanted - seen).pop()
        seen.add(path)
        async with service.client.get(service.url + path) as response:
            assert response.status == 200, path
            assert "immutable" in response.headers["Cache-Control"]
            assert response.headers["Content-Encoding"] == "gzip"
            total += int(response.headers["Content-Length"])
            text = await response.text()
        async with service.client.get(service.url + path, headers={"Accept-Encoding": "identity"}) as response:
            assert "Content-Encoding" not in response.headers
            assert await response.text() == text
        if path.endswith(".js"):
            wanted |= {f"{path.rpartition('/')[0]}/{name}" for name in re.findall(r'from "\./([a-z]+\.js)"', text)}
            assert not re.search(r"\binnerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert {"app.js", "covers.js", "words.js"} <= {path.rpartition("/")[2] for path in seen}, "modules import modules"
    assert total <= MAX_PAGE_BYTES


async def test_the_manifest_makes_the_page_a_target_of_shared_links(service: RunningService) -> None:
    async with service.client.get(service.url + "/manifest.webmanifest") as response:
        manifest = await response.json(content_type="application/manifest+json")
    assert manifest["share_target"]["action"] == "/share"
    async with service.client.get(service.url + manifest["icons"][0]["src"]) as response:
        assert response.content_type == "image/svg+xml"


@pytest.mark.parametrize("path", ["/page/0000000000000000/app.js", "/page/x/..%2f..%2fapi.py", "/page/", "/page/x"])
async def test_an_unknown_file_of_the_page_is_404(service: RunningService, path: str) -> None:
    await expect_problem(service, "GET", path, 404, "not_found")


async def test_without_scripts_the_form_leads_to_the_finished_track(service: RunningService) -> None:
    response = await send_form(service, "/convert", 303, {"links": f"https://youtu.be/{VIDEO}\n{'b' * 11}"})
    location = response.headers["Location"]
    ids = location.removeprefix("/?jobs=").split(",")
    assert len(ids) == 2
    for job_id in ids:
        await service.ended(job_id)
    page = await page_of(service, location)
    assert "http-equiv" not in page, "the page is loaded again only while a job has not ended"
    assert all(f'href="/download/{job_id}.mp3"' in page for job_id in ids)
    assert "Rock &quot;n&quot; Roll" in page
    assert TITLE not in page


async def test_without_scripts_the_form_ignores_the_quality_of_a_copy(service: RunningService) -> None:
    response = await send_form(service, "/convert", 303, {"links": VIDEO, "format": "opus", "quality": "V0"})
    job_id = response.headers["Location"].removeprefix("/?jobs=")
    assert (await service.ended(job_id))["download_url"] == f"/download/{job_id}.opus"


async def test_without_scripts_the_form_takes_a_language(service: RunningService) -> None:
    fields = {"links": VIDEO, "language": " DE "}
    response = await send_form(service, "/convert", 303, fields)
    assert (await service.ended(response.headers["Location"].removeprefix("/?jobs=")))["language"] == "de"
    page = await expect_page(await send_form(service, "/convert", 400, fields | {"language": "german"}))
    assert "`language`" in page


async def test_without_scripts_the_form_takes_a_part_of_the_video(service: RunningService) -> None:
    fields = {"links": f"https://youtu.be/{VIDEO}?t=90", "start": "link", "end": " 1:40.5 "}
    fields |= {"format": "mp3", "quality": "192k"}
    response = await send_form(service, "/convert", 303, fields)
    job = await service.ended(response.headers["Location"].removeprefix("/?jobs="))
    assert (job["start_seconds"], job["end_seconds"]) == (90.0, 100.5)
    for wrong in ({"end": "0:10"}, {"start": "soon"}, {"format": "m4a"}):
        page = await expect_page(await send_form(service, "/convert", 400, fields | wrong))
        assert "`start`" in page, wrong


async def test_without_scripts_the_form_takes_tags_of_one_video(service: RunningService) -> None:
    fields = {"links": VIDEO, "title": " Mine ", "artist": "", "album": "Ours", "cover": "no"}
    response = await send_form(service, "/convert", 303, fields)
    job = await service.ended(response.headers["Location"].removeprefix("/?jobs="))
    assert (job["metadata"]["title"], job["metadata"]["album"], job["file"]["sha256"]) == ("Mine", "Ours", None)
    unchanged = {"links": VIDEO, "title": "", "cover": "yes"}
    response = await send_form(service, "/convert", 303, unchanged)
    assert (await service.ended(response.headers["Location"].removeprefix("/?jobs=")))["file"]["sha256"] is not None
    for wrong, text in (({"links": f"{VIDEO}\n{'b' * 11}"}, "one link only"), ({"title": "\u202e"}, "metadata.title")):
        assert text in await expect_page(await send_form(service, "/convert", 400, fields | wrong))


async def test_without_scripts_the_page_is_loaded_again_while_a_job_is_open(service: RunningService) -> None:
    service.converter.hold(VIDEO)
    response = await send_form(service, "/convert", 303, {"links": VIDEO, "quality": "V0"})
    assert '<noscript><meta http-equiv="refresh"' in await page_of(service, response.headers["Location"])


async def test_links_after_a_refused_one_stay_in_the_form_and_those_before_it_are_jobs(service: RunningService) -> None:
    links = f"{VIDEO}\nhttps://evil.example/<script>\nhttps://youtu.be/{'b' * 11}"
    response = await send_form(service, "/convert", 422, {"links": links})
    page = await expect_page(response)
    assert "https://evil.example/&lt;script&gt;\nhttps://youtu.be/bbbbbbbbbbb</textarea>" in page
    assert "is not a link to YouTube" in page
    assert page.count("<h3>") == 1


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/convert", {}, 400),
        ("/convert", {"links": "  \n "}, 400),
        ("/convert", {"links": "x " * (MAX_FORM_LINKS + 1)}, 400),
        ("/convert", {"links": VIDEO, "quality": "loud"}, 400),
        ("/convert", {"links": VIDEO, "format": "wav"}, 400),
        ("/convert", {"links": "x" * MAX_FORM_BYTES}, 413),
        ("/convert", dict.fromkeys("abcdefgh", "x"), 400),
        ("/sign-in", {"key": "x"}, 303),
    ],
)
async def test_a_wrong_form_gets_the_page_with_a_reason(
    service: RunningService, path: str, fields: dict[str, str], status: int
) -> None:
    response = await send_form(service, path, status, fields)
    if status != 303:
        assert 'role="alert" >' in await expect_page(response)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
async def test_a_body_that_is_no_form_is_refused(service: RunningService, content_type: str) -> None:
    async with service.client.post(
        service.url + "/convert", data=b"links=x", headers={"Content-Type": content_type}
    ) as response:
        assert response.status == 415


@pytest.mark.parametrize(
    "foreign", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]
)
async def test_a_form_on_another_site_cannot_start_work(service: RunningService, foreign: dict[str, str]) -> None:
    await send_form(service, "/convert", 400, {"links": VIDEO}, **foreign)
    own = {"Sec-Fetch-Site": "same-origin"} if "Sec-Fetch-Site" in foreign else {"Origin": service.url}
    await send_form(service, "/convert", 303, {"links": VIDEO}, **own)


async def test_a_shared_link_only_fills_the_form(service: RunningService) -> None:
    page = await page_of(service, "/share?title=A+song&text=Listen:+https%3A%2F%2Fyoutu.be%2F" + VIDEO + "%3Fsi%3D%22x")
    assert f">https://youtu.be/{VIDEO}?si=&quot;x</textarea>" in page
    assert service.parts.runs.active == service.parts.queue.qsize() == 0


async def test_jobs_that_do_not_exist_are_left_out(service: RunningService) -> None:
    assert '<ul id="jobs"></ul>' in await page_of(service, f"/?jobs={'0' * 34},x,,%22%3E")


async def test_a_full_queue_is_said_on_the_page(service: RunningService) -> None:
    service.store.broken["submit"] = QueueFull(retry_after_seconds=7)
    response = await send_form(service, "/convert", 503, {"links": VIDEO})
    assert response.headers["Retry-After"] == "7"
    assert "queue of conversions is full" in await expect_page(response)


async def test_without_a_session_the_page_asks_for_a_key_and_shows_no_job(guarded: RunningService) -> None:
    page = await page_of(guarded)
    assert re.search(r'<form id="sign-in"[^>]*" >', page)
    assert re.search(r'<form id="convert"[^>]* hidden>', page)
    page = await page_of(guarded, "/", headers={"Cookie": f"{COOKIE}=alice:99999999999:{'A' * 43}"})
    assert re.search(r'<form id="convert"[^>]* hidden>', page)


async def test_a_session_gives_access_to_the_jobs_of_its_key_alone(guarded: RunningService) -> None:
    alice, bob = await sign_in(guarded, ALICE), await sign_in(guarded, BOB)
    response = await send_form(guarded, "/convert", 303, {"links": VIDEO}, **alice)
    location = response.headers["Location"]
    job_id = location.removeprefix("/?jobs=")
    page = await page_of(guarded, location, headers=alice)
    assert "Signed in as alice" in page
    assert "<h3>" in page
    assert "<h3>" not in await page_of(guarded, location, headers=bob)
    for session, status in ((alice, 200), (bob, 404), ({}, 401)):
        async with guarded.client.get(f"{guarded.url}/status/{job_id}", headers=session) as answer:
            assert answer.status == status


async def test_a_request_that_another_site_causes_cannot_use_a_session(guarded: RunningService) -> None:
    session = await sign_in(guarded, ALICE)
    body = {"url": f"https://youtu.be/{VIDEO}"}
    foreign = session | {"Sec-Fetch-Site": "cross-site"}
    await expect_problem(guarded, "POST", "/extract", 401, "unauthorized", json=body, headers=foreign)
    async with guarded.client.post(guarded.url + "/extract", json=body, headers=session) as response:
        assert response.status in {200, 202}


async def test_signing_out_removes_the_cookie_and_a_wrong_key_gets_none(guarded: RunningService) -> None:
    response = await send_form(guarded, "/sign-out", 303, {})
    assert SimpleCookie(response.headers["Set-Cookie"])[COOKIE]["max-age"] == "0"
    response = await send_form(guarded, "/sign-in", 401, {"key": "ytmp3_wrong"})
    assert "Set-Cookie" not in response.headers
    assert "no valid key" in await expect_page(response)


async def test_a_session_ends_when_its_key_is_removed(guarded: RunningService, keys_file: Path) -> None:
    session = await sign_in(guarded, ALICE)
    assert "Signed in as alice" in await page_of(guarded, headers=session)
    keys_file.write_text(key_line("bob", BOB))
    await reload_keys(guarded.parts)
    assert "alice" not in await page_of(guarded, headers=session)


def test_a_session_ends_after_its_time_and_accepts_no_change() -> None:
    signer = SessionSigner(SECRET)
    value = signer.value("alice", until=1000 + SESSION_SECONDS)
    assert signer.key_name(value, now=1000) == "alice"
    assert signer.key_name(value, now=999 + SESSION_SECONDS) == "alice"
    assert signer.key_name(value, now=1000 + SESSION_SECONDS) is None
    assert SessionSigner(b"t" * 32).key_name(value, now=1000) is None
    for changed in (value.replace("alice", "alicf"), value.replace(":2", ":3", 1), value[:-1] + "!", "", value + "A"):
        assert signer.key_name(changed, now=0) is None


def test_the_cookie_of_a_request_is_checked_once(keys_file: Path) -> None:
    class CountingSigner(SessionSigner):
        checks = 0

        def key_name(self, value: str, *, now: float) -> str | None:
            self.checks += 1
            return super().key_name(value, now=now)

    signer = CountingSigner(SECRET)
    sessions = Sessions(signer, Keys(parse_keys(keys_file.read_text())), clock=lambda: 1000.0)
    for value, name in ((signer.value("alice", until=2000), "alice"), ("alice:2000:x", None)):
        signer.checks = 0
        request = make_mocked_request("GET", "/", headers={"Cookie": f"{COOKIE}={value}"})
        for _ in range(3):
            key = sessions.key_of(request)
            assert (None if key is None else key.name) == name
        assert signer.checks == 1


async def test_below_a_path_every_address_of_the_page_has_it(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", PUBLIC_URL="https://example.org/music") as service:
        page = await page_of(service)
        addresses = re.findall(r'(?:src|href|action)="(/[^"]*)"', page)
        assert addresses
        assert all(address.startswith("/music/") for address in addresses)
        response = await send_form(service, "/convert", 303, {"links": VIDEO})
        assert response.headers["Location"].startswith("/music/?jobs=")


async def test_the_page_can_be_switched_off(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", PAGE="off") as service:
        for path in ("/", "/share", "/manifest.webmanifest"):
            await expect_problem(service, "GET", path, 404, "not_found")
