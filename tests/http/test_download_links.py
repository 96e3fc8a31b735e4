"""Signed download links in the running service: what they open, what they do not, and when they end."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import content_of
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from ytmp3.core.ids import JobId
from ytmp3.http.keys import key_line, new_secret
from ytmp3.serve import reload_keys
from ytmp3.storage.secret_file import shared_secret

VIDEO = "dQw4w9WgXcQ"
ALICE, BOB = new_secret(b"a" * 24), new_secret(b"b" * 24)
KEY = {"X-API-Key": ALICE}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"{key_line('alice', ALICE)}\n{key_line('bob', BOB)}\n")
    return path


@pytest.fixture
async def service(tmp_path: Path, keys_file: Path) -> AsyncIterator[RunningService]:
    settings = {"API_KEYS_FILE": str(keys_file), "DOWNLOAD_LINK_SECONDS": "3600"}
    async with running_service(tmp_path / "data", **settings) as running:
        yield running


async def link_of(service: RunningService) -> str:
    """Have a track converted for alice; return its link. After that, the client sends no key of its own."""
    service.client.headers["X-API-Key"] = ALICE
    job = await service.completed(VIDEO)
    del service.client.headers["X-API-Key"]
    link = job["download_url"]
    assert isinstance(link, str)
    assert "?until=" in link
    return link


async def test_a_link_opens_its_track_without_a_key_and_nothing_else(service: RunningService) -> None:
    link = await link_of(service)
    async with service.client.get(service.url + link, headers={"Range": "bytes=0-9"}) as response:
        assert (response.status, await response.read()) == (206, content_of(VIDEO)[:10])
    async with service.client.head(service.url + link) as response:
        assert response.status == 200
    path, query = link.split("?")
    job_id = path.removeprefix("/download/").removesuffix(".mp3")
    for method, other in (("GET", path), ("GET", f"/status/{job_id}?{query}"), ("DELETE", f"/jobs/{job_id}?{query}")):
        await expect_problem(service, method, other, 401, "unauthorized")


async def test_a_changed_link_is_a_request_without_a_key(service: RunningService) -> None:
    link = await link_of(service)
    path, query = link.split("?")
    until, signature = query.split("&")
    later = f"until={int(until.removeprefix('until=')) + 1}"
    for changed in (
        f"{path}?{later}&{signature}", f"{path}?{until}", f"{path}?{signature}", f"{path}?{query}&{until}",
        f"{path}?{until}&{signature[:-1]}", f"/download/{'0' * 34}.mp3?{query}", f"{path}?{until}&signature=%ff%00",
    ):  # fmt: skip
        await expect_problem(service, "GET", changed, 401, "unauthorized")


async def test_a_link_ends_by_the_clock_of_the_store(service: RunningService) -> None:
    link = await link_of(service)
    service.store_clock.shift_seconds = 3000.0
    async with service.client.get(service.url + link) as response:
        assert response.status == 200
    service.store_clock.shift_seconds = 3601.0
    await expect_problem(service, "GET", link, 403, "link_expired")
    # The job shows a new one.
    job_id = link.removeprefix("/download/").split(".")[0]
    async with service.client.get(f"{service.url}/status/{job_id}", headers=KEY) as response:
        fresh = (await response.json())["download_url"]
    assert fresh != link
    async with service.client.get(service.url + fresh) as response:
        assert response.status == 200


async def test_a_link_never_lasts_longer_than_the_track(tmp_path: Path, keys_file: Path) -> None:
    settings = {"API_KEYS_FILE": str(keys_file), "DOWNLOAD_LINK_SECONDS": "86400", "JOB_EXPIRATION_HOURS": "1"}
    async with running_service(tmp_path / "data", **settings) as service:
        link = await link_of(service)
        job_id = JobId(link.removeprefix("/download/").split(".")[0])
        ticket = await service.store.get(job_id)
        assert ticket is not None
        assert ticket.conversion.expires_at is not None
        assert int(link.split("until=")[1].split("&")[0]) <= ticket.conversion.expires_at


async def test_a_link_of_a_cancelled_job_or_of_a_withdrawn_key_opens_nothing(
    service: RunningService, keys_file: Path
) -> None:
    link = await link_of(service)
    keys_file.write_text(f"{key_line('bob', BOB)}\n")
    await reload_keys(service.parts)
    await expect_problem(service, "GET", link, 404, "job_unknown")
    keys_file.write_text(f"{key_line('alice', ALICE)}\n")
    await reload_keys(service.parts)
    job_id = link.removeprefix("/download/").split(".")[0]
    async with service.client.delete(f"{service.url}/jobs/{job_id}", headers=KEY) as response:
        assert response.status == 200
        assert (await response.json())["download_url"] is None
    await expect_problem(service, "GET", link, 410, "cancelled")


async def test_two_instances_with_one_folder_accept_each_others_links(tmp_path: Path, keys_file: Path) -> None:
    settings = {"API_KEYS_FILE": str(keys_file), "DOWNLOAD_LINK_SECONDS": "3600"}
    async with running_service(tmp_path / "data", **settings) as service:
        link = await link_of(service)
    async with (
        running_service(tmp_path / "data", **settings) as successor,
        successor.client.get(successor.url + link) as response,
    ):
        assert response.status == 200


@pytest.mark.parametrize("settings", [{"DOWNLOAD_LINK_SECONDS": "0"}, {"API_KEYS_FILE": ""}])
async def test_without_the_setting_or_without_keys_the_address_of_a_track_has_no_signature(
    tmp_path: Path, keys_file: Path, settings: dict[str, str]
) -> None:
    # The sessions of the web page use the same secret.
    all_settings = {"API_KEYS_FILE": str(keys_file), "DOWNLOAD_LINK_SECONDS": "3600", "PAGE": "off"} | settings
    async with running_service(tmp_path / "data", **all_settings) as service:
        service.client.headers["X-API-Key"] = ALICE
        assert (await service.completed(VIDEO))["download_url"].endswith(".mp3")
        assert not (tmp_path / "data" / "link-secret").exists()


def test_instances_that_start_at_once_get_one_secret_that_only_their_user_can_read(tmp_path: Path) -> None:
    path, found = tmp_path / "link-secret", []
    starters = [
        threading.Thread(target=lambda n=n: found.append(shared_secret(path, bytes([n]) * 32))) for n in range(16)
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert len(found) == 16
    assert set(found) == {path.read_bytes()}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["link-secret"]


def test_a_secret_of_another_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link-secret").write_bytes(b"short")
    with pytest.raises(ValueError, match="expected 32 bytes"):
        shared_secret(tmp_path / "link-secret", bytes(32))
