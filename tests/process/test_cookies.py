"""Cookies of an account: used last, by copies, and written back once; refused ones are seen and counted."""

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import RunningPipeline, running_pipeline
from ytmp3.converter import ONLY_PASSAGE
from ytmp3.converter.cookies import Cookies, has_login, replace_file, with_renewed
from ytmp3.converter.task import CookiesCopy, Task
from ytmp3.converter.tries import Tries
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.recipe import DEFAULT_RECIPE

HEADER = "# Netscape HTTP Cookie File\n"


def line(name: str, value: str, domain: str = ".youtube.com") -> str:
    return f"{domain}\tTRUE\t/\tTRUE\t2145916800\t{name}\t{value}\n"


LOGIN = HEADER + line("SAPISID", "sapi") + line("LOGIN_INFO", "login") + line("PREF", "tz=UTC")


@pytest.fixture
def cookies_file(tmp_path: Path) -> Path:
    path = tmp_path / "cookies.txt"
    path.write_text(LOGIN)
    path.chmod(0o644)
    return path


async def refusal_of(own: RunningPipeline, kind: Kind, number: int) -> FailureCode:
    with pytest.raises(ConversionError) as failure:
        await own.convert(video_id(kind, number))
    return failure.value.code


async def test_an_account_is_asked_only_when_guests_are_refused(
    youtube: Spawned, tmp_path: Path, cookies_file: Path
) -> None:
    youtube.reset()
    youtube.switch(account="renewed")
    async with running_pipeline(youtube, tmp_path, cookies_file=cookies_file) as own:
        await own.convert(video_id(Kind.SHORT, 41))
        assert await refusal_of(own, Kind.PRIVATE, 41) is FailureCode.PRIVATE
        assert youtube.totals()["logged_in_pages"] == 0, "guests are served, or the account may not help"
        await own.convert(video_id(Kind.AGE, 41))
        assert youtube.totals()["logged_in_pages"] == 1
        # The renewed cookie is in the file, which only its owner may read now; all others are as they were.
        content = cookies_file.read_text()
        assert content.startswith(LOGIN)
        assert content.endswith("\t__Secure-1PSIDTS\trenewed-1\n")
        assert content.count("\n") == LOGIN.count("\n") + 1
        assert stat.S_IMODE(cookies_file.stat().st_mode) == 0o600
        # A conversion that fails brings nothing back.
        youtube.switch(media="403")
        assert await refusal_of(own, Kind.AGE, 42) is not FailureCode.AGE_RESTRICTED
        assert youtube.totals()["logged_in_pages"] > 1
        assert cookies_file.read_text() == content
        youtube.switch(media="no")
        # Of several at once, the first one brings its cookies back; every one succeeds.
        before = youtube.totals()["logged_in_pages"]
        await asyncio.gather(*(own.convert(video_id(Kind.AGE, number)) for number in (43, 44, 45)))
        assert youtube.totals()["logged_in_pages"] == before + 3
        assert cookies_file.read_text().count("__Secure-1PSIDTS") == 1
        assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".cookies")] == []
        assert own.pipeline.refused_cookies() == {"default": 0}


async def test_refused_cookies_are_counted_and_left_out_until_the_file_changes(
    youtube: Spawned, tmp_path: Path, cookies_file: Path
) -> None:
    youtube.reset()
    youtube.switch(account="ended")
    async with running_pipeline(youtube, tmp_path, cookies_file=cookies_file) as own:
        for number in (51, 52):
            # The code of the guest is that of the conversion: nothing is wrong with the network settings.
            assert await refusal_of(own, Kind.AGE, number) is FailureCode.AGE_RESTRICTED
            assert own.pipeline.refused_cookies() == {"default": 1}
        (check,) = [each for each in await own.pipeline.check() if each.name == "cookies"]
        assert (check.ok, check.detail) == (True, "default: refused by YouTube: export them again")
        assert youtube.totals()["logged_in_pages"] == 1
        assert cookies_file.read_text() == LOGIN
        youtube.switch(account="served")
        # yt-dlp refuses a whole file that has no first line, or a line of JSON.
        cookies_file.write_text('{"not": "a cookie"}\n' + LOGIN.replace(HEADER, "").replace("sapi", "other"))
        (tmp_path / "probe").mkdir()
        probed = await own.pipeline.describe(VideoId(video_id(Kind.AGE, 53)), ClientId("a"), tmp_path / "probe")
        assert probed.metadata.title
        await own.convert(video_id(Kind.AGE, 53))
        (check,) = [each for each in await own.pipeline.check() if each.name == "cookies"]
        assert check.detail == "default: with a login"


async def test_while_all_guests_are_refused_the_account_is_asked_at_once(
    youtube: Spawned, tmp_path: Path, cookies_file: Path
) -> None:
    youtube.reset()
    youtube.switch(refused_clients={"*": "bot"})
    async with running_pipeline(youtube, tmp_path, cookies_file=cookies_file) as own:
        for number in range(61, 66):
            await own.convert(video_id(Kind.SHORT, number))
            assert youtube.counts(video_id(Kind.SHORT, number)).pages > 1
        await own.convert(video_id(Kind.SHORT, 66))
        assert youtube.counts(video_id(Kind.SHORT, 66)).pages == 1
        # A conversion that another release repeats takes from the budget again, also with cookies.
        tools = own.pipeline._generations.current.tools
        (folder := tmp_path / "repeated").mkdir()
        repeated = Task(
            video_id=VideoId(video_id(Kind.SHORT, 66)),
            recipe=DEFAULT_RECIPE,
            client=ClientId("somebody"),
            scratch=folder,
            passage=ONLY_PASSAGE,
            identity=tools.identities.first,
            is_repeated=True,
        )
        first = await Tries(tools, repeated).first()
        assert (first.cookies is not None, first.is_repeated) == (True, True)
        # If the cookies are refused then, a guest is tried after all.
        youtube.switch(account="ended", refused_clients={})
        await own.convert(video_id(Kind.SHORT, 67))
        assert own.pipeline.refused_cookies() == {"default": 1}


def test_a_child_can_change_only_what_youtube_renews() -> None:
    given = LOGIN.encode()
    assert has_login(given)
    assert with_renewed(given, given) == given
    # Other names, other sites, junk, and the end of the session change nothing.
    added = line("SAPISID", "stolen") + line("NEW", "x") + line("SIDCC", "x", ".example.com") + "junk\n"
    assert with_renewed(given, given + added.encode()) == given
    assert with_renewed(given, line("SIDCC", "x").encode()) == given
    assert with_renewed(given, b"\0" * 100) == given
    renewed = LOGIN.replace("LOGIN_INFO\tlogin", "LOGIN_INFO\tlogged-in-again")
    assert with_renewed(given, renewed.encode()) == renewed.encode()
    # A cookie that only browsers may read has a prefix in the file; yt-dlp drops it.
    hidden = LOGIN.replace(
        ".youtube.com\tTRUE\t/\tTRUE\t2145916800\tLOGIN", "#HttpOnly_.youtube.com\tTRUE\t/\tTRUE\t1\tLOGIN"
    )
    assert has_login(hidden.encode())
    assert with_renewed(hidden.encode(), renewed.encode()) == renewed.encode()


def test_a_file_that_somebody_else_has_changed_or_is_changing_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cookies"
    path.write_bytes(b"old")
    (tmp_path / ".cookies.new").write_bytes(b"left behind by a crash")
    assert replace_file(path, b"old", b"new")
    assert not replace_file(path, b"old", b"newer")
    assert [each.name for each in tmp_path.iterdir()] == ["cookies"]
    # Of many at once, each with another content, one succeeds.
    results = []
    threads = [
        threading.Thread(target=lambda own=number: results.append(replace_file(path, b"new", b"%d" % own)))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(results) == 1
    assert path.read_bytes().isdigit()


def test_cookies_of_a_file_that_cannot_be_written_are_kept_in_memory(tmp_path: Path) -> None:
    path, copy = tmp_path / "folder" / "cookies", tmp_path / "copy"
    path.parent.mkdir()
    path.write_text(LOGIN)
    cookies = Cookies(path, lambda: 0.0)
    given = cookies.copy_to(copy)
    renewed = given + line("SIDCC", "renewed").encode()
    copy.write_bytes(renewed)
    # A folder in the place of the new file: root may write everywhere, so permissions would not prevent it.
    (path.parent / ".cookies.new").mkdir()
    cookies.accepted(given, copy)
    assert path.read_text() == LOGIN
    assert cookies.copy_to(copy) == renewed
    # An older copy says nothing about the present cookies; the file of the operator goes before ours.
    assert not cookies.refused(given)
    assert cookies.are_usable()
    path.write_text(LOGIN.replace("sapi", "new"))
    assert b"new" in cookies.copy_to(copy)


def test_nothing_but_a_regular_file_is_taken_back_from_a_child(tmp_path: Path) -> None:
    path, copy, other = tmp_path / "cookies", tmp_path / "copy", tmp_path / "other"
    path.write_text(LOGIN)
    other.write_text(LOGIN + line("SIDCC", "of another account"))
    cookies = Cookies(path, lambda: 0.0)
    given = cookies.copy_to(copy)
    others: list[Callable[[], object]] = [lambda: copy.symlink_to(other), lambda: os.mkfifo(copy), copy.mkdir]
    for make in others:
        copy.unlink()
        make()
        cookies.accepted(given, copy)
        assert path.read_text() == LOGIN


def test_another_try_gets_a_copy_in_its_own_folder(tmp_path: Path) -> None:
    content = b"not a cookie\n" + LOGIN.encode()
    again = CookiesCopy(path=tmp_path / "first", content=content).again_at(tmp_path / "second")
    assert (again.path, again.content) == (tmp_path / "second", content)
    assert again.path.read_text() == LOGIN
    assert "sapi" not in repr(again)
