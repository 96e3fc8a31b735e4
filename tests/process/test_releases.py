"""Releases of yt-dlp beside the built-in one: fetched, tried, used by a running service, and refused when broken."""

import base64
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.package_index import (
    SOLVER,
    PackageIndex,
    extractor_files,
    extractor_wheel,
    package_index,
    solver_files,
    wheel,
)
from tests.stand.processes import is_running
from tests.stand.releases import settings_of, use_untried
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.waiting import until
from ytmp3.converter.generations import Generations
from ytmp3.converter.releases.commands import ExtractorCommands, ExtractorError
from ytmp3.converter.releases.store import ReleaseStore
from ytmp3.converter.releases.workshop import CannotTryError, FetchError, Workshop
from ytmp3.core.release import Ended

GOOD = "2026.11.1"
HUNG = "2026.11.5"
LATER = "2026.11.12"
"""Passes every trial, and is refused by YouTube."""
SECONDS = 600.0
"""A limit that no busy machine reaches."""
SHORT_SECONDS = 2.0
"""The limit for the release that hangs."""


def broken(files: Mapping[str, bytes], name: str, old: bytes, new: bytes) -> dict[str, bytes]:
    assert old in files[name]
    return {**files, name: files[name].replace(old, new)}


def add_releases(index: PackageIndex) -> dict[str, tuple[Ended, str]]:
    """Fill the index; return each release that must be refused, with its exit code and a part of the text."""
    full = extractor_files(GOOD)
    index.add("yt-dlp", GOOD, extractor_wheel(GOOD, full))
    index.add("yt-dlp-ejs", SOLVER, wheel("yt-dlp-ejs", SOLVER, solver_files()))
    index.add("yt-dlp-ejs", "0.9.0", wheel("yt-dlp-ejs", "0.9.0", solver_files()))

    def add(number: int, files: Mapping[str, bytes], solver: str = SOLVER) -> str:
        version = f"2026.11.{number}"
        index.add("yt-dlp", version, extractor_wheel(version, files, solver))
        return version

    def only(code: str) -> dict[str, bytes]:
        return {"yt_dlp/__init__.py": code.encode()}

    moved = broken(full, "yt_dlp/YoutubeDL.py", b"def build_request_director(", b"def make_request_director(")
    wrong_hash = add(2, only(""))
    index.hashes[f"yt_dlp-{wrong_hash}-py3-none-any.whl"] = "0" * 64
    entry = b"    def _real_extract(self, url):\n"
    fails = b"        if 'rehearsal00' not in url: raise ExtractorError('Sign in to confirm you are not a bot')\n"
    assert add(12, broken(extractor_files(LATER), "yt_dlp/extractor/youtube/_video.py", entry, entry + fails)) == LATER
    assert add(5, only("import time\ntime.sleep(3600)")) == HUNG
    return {
        wrong_hash: (Ended.NOT_FETCHED, "SHA-256"),
        add(3, only("import a_package_that_is_not_there")): (Ended.REFUSED, "a_package_that_is_not_there"),
        add(4, moved): (Ended.REFUSED, "build_request_director is missing"),
        HUNG: (Ended.REFUSED, "no end within"),
        add(6, only("held = bytearray(2**40)")): (Ended.REFUSED, "MemoryError"),
        add(7, only("") | {"yt_dlp/../../outside.py": b""}): (Ended.NOT_FETCHED, "outside its package"),
        add(8, full, "0.9.0"): (Ended.REFUSED, "yt-dlp-ejs"),
        add(9, full, "0.7.0"): (Ended.NOT_FETCHED, "no wheel of yt-dlp-ejs 0.7.0"),
        add(10, only("import os\nos._exit(3)")): (Ended.REFUSED, "without a report"),
        "2026.11.11": (Ended.NOT_FETCHED, "no wheel of yt-dlp 2026.11.11"),
        "newest": (Ended.WRONG, "VERSION"),
    }


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with package_index() as running:
        yield running


def commands_of(folder: Path, index: PackageIndex, *, seconds: float = SECONDS) -> ExtractorCommands:
    store, said = ReleaseStore(folder), list[str]()
    workshop = Workshop(settings_of(folder, index), store, {}, inspect_seconds=seconds, start_seconds=seconds)
    return ExtractorCommands(store, workshop, said.append)


async def release_in_use(service: ServiceProcess) -> str:
    """Return what /health says of the release."""
    _, health = await service.get("/health")
    return str(health["checks"]["yt-dlp"]["detail"])


async def converts(service: ServiceProcess, number: int) -> bool:
    job = await service.submit(watch_url(video_id(Kind.SHORT, number)))
    ended = await service.until(job["job_id"])
    return bool(ended["status"] == "completed")


async def test_a_service_changes_to_a_good_release_and_never_to_a_broken_one(
    youtube: Spawned, tmp_path: Path, index: PackageIndex
) -> None:
    refused = add_releases(index)
    async with service_process(tmp_path, **egress(youtube)) as service:
        folder = tmp_path / "data" / "extractor"
        store, commands = ReleaseStore(folder), commands_of(folder, index)
        running = await service.submit(watch_url(video_id(Kind.SLOW, 1)))
        await service.until(running["job_id"], "downloading", "converting")
        await commands.use("2026.11.01")

        async def is_used() -> bool:
            return GOOD in await release_in_use(service)

        await until(is_used, "the service uses the release")
        assert (await service.until(running["job_id"]))["status"] == "completed"
        assert await converts(service, 2)
        for version, (ended, text) in refused.items():
            bounded = commands_of(folder, index, seconds=SHORT_SECONDS) if version == HUNG else commands
            with pytest.raises(ExtractorError) as error:
                await bounded.use(version)
            assert (error.value.ended, text in str(error.value)) == (ended, True), str(error.value)
            assert store.versions() == [GOOD]
            assert store.state().active == GOOD
        assert not list(tmp_path.rglob("outside.py"))
        assert {entry.name for entry in folder.iterdir()} <= {GOOD, "state.json", "lock"} | {
            # What the last fetch has left; the next command deletes it.
            entry.name
            for entry in folder.glob("incoming-*")
        }
        assert await converts(service, 3)
        await commands.use(LATER)

        async def is_later() -> bool:
            return LATER in await release_in_use(service)

        await until(is_later, "the service uses the release that fails later")
        for number in range(4, 9):
            assert await converts(service, number)
        await until(lambda: store.state().active == GOOD, "the release before is used again")
        assert LATER in store.state().note
        assert len(service.events("extractor release given up")) == 1
        assert not service.events("retry scheduled")
        assert not service.events("conversion failed")
        with pytest.raises(ExtractorError, match="was given up"):
            commands.back()
        assert store.state().active == GOOD
        await commands.use("built-in")

        async def is_built_in() -> bool:
            return await release_in_use(service) == "preloaded"

        await until(is_built_in, "the service uses the built-in release")
        assert await converts(service, 9)


async def test_a_trial_that_does_not_end_is_no_fault_of_the_release(tmp_path: Path, index: PackageIndex) -> None:
    index.add("yt-dlp-ejs", SOLVER, wheel("yt-dlp-ejs", SOLVER, solver_files()))
    for version, code in ((GOOD, "import os\nos._exit(3)"), (LATER, "import a_package_that_is_not_there")):
        index.add("yt-dlp", version, extractor_wheel(version, {"yt_dlp/__init__.py": code.encode()}))
    store = ReleaseStore(tmp_path / "extractor")
    workshop = Workshop(settings_of(tmp_path / "extractor", index), store, {})
    with store.changing():
        await workshop.fetch(GOOD)
        await workshop.fetch(LATER)
    with pytest.raises(CannotTryError, match="without a report"):
        await workshop.faults(GOOD)
    (fault,) = await workshop.faults(LATER)
    assert "a_package_that_is_not_there" in fault
    (store.packages(LATER) / "yt_dlp" / "__init__.py").write_bytes(b"damaged")
    assert "has changed" in (await workshop.faults(LATER))[0]
    # As after an error of the disk: the manifest is there and cannot be read.
    manifest = store.packages(LATER).parent / "manifest.json"
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(CannotTryError, match="cannot be read"):
        await workshop.faults(LATER)


async def test_a_damaged_release_is_replaced_by_the_built_in_one(tmp_path: Path, index: PackageIndex) -> None:
    add_releases(index)
    folder = tmp_path / "extractor"
    await use_untried(folder, index, GOOD)
    (tmp_path / "work").mkdir()
    generations = Generations(settings_of(folder, index), tmp_path / "work", poll_seconds=0.05)
    try:
        await generations.open()
        assert not generations.release.is_refused
        first = generations.current
        zygote = first.tools.spawner.zygote_pid
        assert zygote is not None
        with generations.in_use() as generation:
            assert generation is first
            # The release is in use, so it cannot be removed; and a zygote that is replaced runs on with its conversion.
            ReleaseStore(folder).remove(GOOD)
            assert ReleaseStore(folder).versions() == [GOOD]
            await commands_of(folder, index).use("built-in")
            await until(lambda: generations.current is not first, "the built-in release is used", poll_seconds=0.01)
            assert is_running(zygote)
        await until(lambda: not is_running(zygote), "the zygote has ended with its last conversion", poll_seconds=0.01)
        (ReleaseStore(folder).packages(GOOD) / "yt_dlp" / "version.py").write_bytes(b"__version__ = '2026.11.01'\n")
        ReleaseStore(folder).choose(GOOD)
        await until(lambda: generations.release.is_refused, "the release is refused", poll_seconds=0.01)
        checks = {each.name: each for each in await generations.current.checker.check()}
        assert checks["yt-dlp"].ok
        assert "yt_dlp/version.py has changed" in checks["yt-dlp"].detail
    finally:
        await generations.close()


async def test_an_index_of_html_serves_too_and_withdrawn_releases_are_not_the_newest(
    tmp_path: Path, index: PackageIndex
) -> None:
    index.is_html = True
    index.add("yt-dlp-ejs", SOLVER, wheel("yt-dlp-ejs", SOLVER, {"yt_dlp_ejs/__init__.py": b""}))
    withdrawn, newest = "2026.11.2.101010.dev0", "2026.11.1.235959.dev0"
    for version in (withdrawn, newest, GOOD):
        index.add("yt-dlp", version, extractor_wheel(version, {"yt_dlp/__init__.py": b""}))
    index.yanked = {f"yt_dlp-{withdrawn}-py3-none-any.whl"}
    store = ReleaseStore(tmp_path / "extractor")
    workshop = Workshop(settings_of(tmp_path / "extractor", index), store, {})
    assert [(offer.version, offer.uploaded_at) for offer in await workshop.offers()] == [(newest, None), (GOOD, None)]
    index.is_html, index.uploaded = False, {f"yt_dlp-{GOOD}-py3-none-any.whl": "2026-11-01T12:00:00.5Z"}
    assert [offer.uploaded_at for offer in await workshop.offers()] == [None, 1793534400.5]
    index.is_html = True
    with store.changing():
        fetched = [(await workshop.fetch(wanted)).yt_dlp for wanted in ("nightly", "stable", withdrawn)]
        assert fetched == [newest, GOOD, withdrawn]
        store.choose(GOOD)
        store.tidy(tried=withdrawn)
    assert store.versions() == [GOOD, withdrawn]
    assert store.state().active == GOOD


async def test_the_login_of_an_index_is_sent_to_its_own_host_only(tmp_path: Path, index: PackageIndex) -> None:
    index.authorization = f"Basic {base64.b64encode(b'reader:p@ss word').decode()}"
    index.add("yt-dlp-ejs", SOLVER, wheel("yt-dlp-ejs", SOLVER, {"yt_dlp_ejs/__init__.py": b""}))
    index.add("yt-dlp", GOOD, extractor_wheel(GOOD, {"yt_dlp/__init__.py": b""}))
    with_login = dataclasses.replace(index, url=index.url.replace("://", "://reader:p%40ss%20word@"))
    store = ReleaseStore(tmp_path / "extractor")
    workshop = Workshop(settings_of(tmp_path / "extractor", with_login), store, {})
    with store.changing():
        assert (await workshop.fetch(GOOD)).yt_dlp == GOOD
        assert index.given == [index.authorization] * 4
        index.files_at = index.url.removesuffix("/simple").replace("127.0.0.1", "localhost")
        with pytest.raises(FetchError, match=r"localhost/files/yt_dlp-.*: HTTP 401"):
            await workshop.fetch(GOOD)
    assert index.given[4:] == [index.authorization, ""]
    index.authorization = "another"
    with pytest.raises(FetchError, match="HTTP 401") as refused:
        await workshop.offers()
    assert not any(part in str(refused.value) for part in ("reader", "p@ss", "p%40ss"))
