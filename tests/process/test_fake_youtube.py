"""The real yt-dlp extracts, downloads and fails with the ordinary kinds of the fake YouTube as it does with YouTube."""

import asyncio
import concurrent.futures
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.fake_youtube import (
    BEHAVIOURS,
    HOSTILE_TITLES,
    UNKIND,
    FakeYouTube,
    Kind,
    Pace,
    Spawned,
    kind_of,
    spawn,
    video_id,
)
from tests.fake_youtube.evidence import MESSAGES, MESSAGES_FILE, Finding, ask, ask_all
from tests.fake_youtube.media import seconds_of
from tests.stand.hearing import decoded_seconds

# One fixture asks yt-dlp about all kinds, some of which end by a time-out.
pytestmark = pytest.mark.xdist_group("fake_youtube")

# Decoding 20 minutes or an hour takes seconds, and shows nothing that a song does not show.
ORDINARY = [kind for kind in Kind if kind not in {*UNKIND, Kind.MIX, Kind.HOUR}]
FAILING = [kind for kind in MESSAGES if kind in ORDINARY]
# yt-dlp alone does not notice that the file is wrong.
UNNOTICED = {Kind.CUT_WHOLE}
WHOLE = [kind for kind in ORDINARY if BEHAVIOURS[kind].expected == "done" and kind not in {*MESSAGES, *UNNOTICED}]
WITHOUT_WARNINGS = [kind for kind in WHOLE if kind is not Kind.BIG_RESPONSE]


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    pace = Pace(delay_seconds=0.3, slow_bytes_per_second=200_000)
    with spawn(tmp_path_factory.mktemp("youtube"), prepare=ORDINARY, pace=pace) as running:
        yield running


@pytest.fixture(scope="module")
def findings(youtube: Spawned, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Finding]:
    """One extraction and download of every kind that ends."""
    return ask_all(youtube, tmp_path_factory.mktemp("findings"), ORDINARY)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_kind_downloads_and_decodes_to_its_announced_length(
    kind: Kind, findings: dict[Kind, Finding], youtube: Spawned
) -> None:
    finding = findings[kind]

    assert finding.error is None
    assert finding.found is not None
    announced = seconds_of(BEHAVIOURS[kind].media)
    assert finding.found["duration"] == announced
    assert decoded_seconds(finding.file) == pytest.approx(announced, rel=0.02)
    counts = youtube.counts(video_id(kind))
    assert (counts.extractions, counts.media_requests) == (1, 1)
    assert counts.media_bytes == finding.file.stat().st_size


@pytest.mark.parametrize("kind", WITHOUT_WARNINGS)
def test_a_whole_kind_causes_no_warning_of_yt_dlp(kind: Kind, findings: dict[Kind, Finding]) -> None:
    assert findings[kind].warnings == ()


@pytest.mark.parametrize("kind", FAILING)
def test_a_failing_kind_causes_the_real_message_of_yt_dlp(kind: Kind, findings: dict[Kind, Finding]) -> None:
    assert re.search(MESSAGES[kind], findings[kind].error or "")


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_collected_messages_agree_with_the_table(kind: Kind) -> None:
    evidence = json.loads(MESSAGES_FILE.read_text(encoding="utf-8"))

    assert re.search(MESSAGES[kind], evidence[kind]["error"])


@pytest.mark.parametrize("kind", [Kind.CUT_ONCE, Kind.FORBIDDEN_ONCE])
def test_a_fresh_extraction_cures_what_fails_once(kind: Kind, youtube: Spawned, tmp_path: Path) -> None:
    identifier = video_id(kind, 7)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()

    assert ask(youtube, first, [identifier])[0].error is not None
    cured = ask(youtube, second, [identifier])[0]

    assert cured.error is None
    assert decoded_seconds(cured.file) == pytest.approx(seconds_of(BEHAVIOURS[kind].media), rel=0.02)
    assert youtube.counts(identifier).extractions == 2


def test_a_live_video_is_announced_as_live(youtube: Spawned, tmp_path: Path) -> None:
    finding = ask(youtube, tmp_path, [video_id(Kind.LIVE, 7)], download=False)[0]

    assert finding.found is not None
    assert finding.found["live_status"] == "is_live"


def test_hostile_titles_arrive_unchanged(youtube: Spawned, tmp_path: Path) -> None:
    ids = [video_id(Kind.HOSTILE_TITLE, number) for number in range(len(HOSTILE_TITLES))]

    titles = [(finding.found or {}).get("title") for finding in ask(youtube, tmp_path, ids, download=False)]

    assert titles == list(HOSTILE_TITLES)


@pytest.mark.parametrize("kind", Kind)
def test_an_id_has_eleven_characters_and_contains_its_kind(kind: Kind) -> None:
    identifier = video_id(kind, 42)

    assert re.fullmatch(r"[A-Za-z0-9_-]{11}", identifier)
    assert kind_of(identifier) == (kind, 42)


def test_an_id_outside_the_scheme_is_a_short_video() -> None:
    assert kind_of("dQw4w9WgXcQ") == (Kind.SHORT, 0)
    assert kind_of("nokind_0001") == (Kind.SHORT, 0)


async def fetch(session: aiohttp.ClientSession, youtube: FakeYouTube, url: str) -> bytes:
    trusted = ssl.create_default_context(cafile=str(youtube.ca_file))
    async with session.get(url, proxy=youtube.proxy_url, ssl=trusted) as response:
        response.raise_for_status()
        return await response.read()


async def test_three_hundred_connections_at_once_are_answered(tmp_path: Path) -> None:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with FakeYouTube.start(tmp_path) as youtube, aiohttp.ClientSession(connector=connector) as session:
        ids = [video_id(Kind.SHORT, number) for number in range(300)]
        urls = [f"https://i.ytimg.com/vi/{identifier}/sddefault.jpg" for identifier in ids]

        bodies = await asyncio.gather(*(fetch(session, youtube, url) for url in urls))

        assert {body[:3] for body in bodies} == {b"\xff\xd8\xff"}
        assert [youtube.counts(identifier).thumbnail_requests for identifier in ids] == [1] * 300


async def test_the_proxy_refuses_every_other_host_and_records_it(tmp_path: Path) -> None:
    async with FakeYouTube.start(tmp_path) as youtube, aiohttp.ClientSession() as session:
        for url in ("https://example.com/", "https://www.youtube.com.example.com/", "https://127.0.0.1/"):
            with pytest.raises(aiohttp.ClientHttpProxyError):
                await fetch(session, youtube, url)

        assert [line.partition(" ")[0] for line in youtube.refused] == ["CONNECT"] * 3
        async with session.get(f"{youtube.control_url}/counts") as response:
            assert (await response.json())["refused"] == list(youtube.refused)
        async with session.post(f"{youtube.control_url}/reset"):
            assert youtube.refused == ()


async def test_an_endless_body_is_real_sound_of_any_length(tmp_path: Path) -> None:
    async with FakeYouTube.start(tmp_path) as youtube, aiohttp.ClientSession() as session:
        trusted = ssl.create_default_context(cafile=str(youtube.ca_file))
        url = f"https://rr1---sn-fake.googlevideo.com/videoplayback?id={video_id(Kind.ENDLESS)}&ei=1"
        async with session.get(url, proxy=youtube.proxy_url, ssl=trusted) as response:
            assert response.content_length is None
            body = await response.content.readexactly(1_500_000)
        path = tmp_path / "endless.webm"
        path.write_bytes(body)

        # 1.5 MB at 128 kbit/s at most; the media that the body repeats last 30 s.
        assert await asyncio.to_thread(decoded_seconds, path) > 90


def test_two_processes_may_make_the_same_media_at_once(tmp_path: Path) -> None:
    cache, one, other = (tmp_path / name for name in ("cache", "one", "other"))
    made = [Kind.SHORT]
    with concurrent.futures.ThreadPoolExecutor() as threads:

        def run(folder: Path) -> None:
            with spawn(folder, cache=cache, prepare=made):
                pass

        list(threads.map(run, (one, other)))

    assert sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") == ["640x480.jpg", "short.webm"]
