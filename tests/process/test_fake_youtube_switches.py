"""The switches of the fake YouTube, as the real yt-dlp sees them: clients, links, players, limits, outages."""

import asyncio
import dataclasses
import re
import ssl
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fake_youtube import FakeYouTube, Kind, Pace, Spawned, spawn, video_id
from tests.fake_youtube.evidence import Finding, ask, fetch
from tests.fake_youtube.limits import LimitKeeper
from tests.fake_youtube.switches import Limit

pytestmark = pytest.mark.xdist_group("fake_youtube_switches")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    kinds = (Kind.SHORT, Kind.CLIP, Kind.HLS)
    with spawn(tmp_path_factory.mktemp("youtube"), prepare=kinds) as youtube:
        yield youtube


@pytest.fixture
def youtube(running: Spawned) -> Spawned:
    running.reset()
    return running


def ask_one(youtube: Spawned, folder: Path, kind: Kind, number: int = 0, **options: Any) -> Finding:
    own = folder / f"{kind}-{number}"
    own.mkdir(exist_ok=True)
    return ask(youtube, own, [video_id(kind, number)], **options)[0]


# What each of yt-dlp's clients gets.

POT = r"https formats require a GVS PO Token which was not provided"


@pytest.mark.parametrize(
    ("client", "sounds", "warning"),
    [
        ("web", set(), IMAGES := r"Only images are available for download"),
        ("web_safari", set(), IMAGES),
        ("web_embedded", {"251/WEB_EMBEDDED_PLAYER"}, None),
        ("tv", {"251/TVHTML5"}, None),
        ("tv_samsung", {"251/TVHTML5"}, None),
        ("tv_downgraded", {"251/TVHTML5"}, None),
        ("visionos", {"251/VISIONOS", "233/VISIONOS", "234/VISIONOS"}, None),
        ("mweb", set(), POT),
        ("tv_simply", set(), POT),
        ("web_music", set(), POT),
        ("android", set(), POT),
        ("android_vr", set(), POT),
        ("ios", set(), POT),
    ],
)
def test_a_client_gets_the_links_that_it_gets_from_youtube(
    client: str, sounds: set[str], warning: str | None, youtube: Spawned, tmp_path: Path
) -> None:
    finding = ask_one(youtube, tmp_path, Kind.BY_CLIENT, clients=[client])

    assert set(finding.sounds) == sounds
    assert (finding.error is None) == bool(sounds)
    assert re.search(warning, "\n".join(finding.warnings)) if warning else not finding.warnings


def test_a_client_that_needs_a_login_is_refused(youtube: Spawned, tmp_path: Path) -> None:
    finding = ask_one(youtube, tmp_path, Kind.BY_CLIENT, clients=["web_creator"])

    assert "Please sign in" in (finding.error or "")


def test_a_token_opens_the_links_of_a_client_that_needs_one(youtube: Spawned, tmp_path: Path) -> None:
    without = ask_one(youtube, tmp_path, Kind.BY_CLIENT, 1, clients=["mweb"], arguments={"formats": ["missing_pot"]})
    with_token = {"po_token": ["mweb.gvs+dG9rZW4tZm9yLXRlc3Rz"]}

    assert "HTTP Error 403" in (without.error or "")
    assert ask_one(youtube, tmp_path, Kind.BY_CLIENT, 2, clients=["mweb"], arguments=with_token).error is None


def test_no_token_opens_the_links_of_the_client_that_youtube_has_given_up(youtube: Spawned, tmp_path: Path) -> None:
    arguments = {"po_token": ["android_vr.gvs+dG9rZW4tZm9yLXRlc3Rz"]}

    finding = ask_one(youtube, tmp_path, Kind.BY_CLIENT, clients=["android_vr"], arguments=arguments)

    assert "HTTP Error 403" in (finding.error or "")


# Switches.

# How Python's TLS words the reset of a connection.
RESET = "Remote end closed connection"


def test_clients_answer_alike_until_the_switch_is_turned(youtube: Spawned, tmp_path: Path) -> None:
    assert ask_one(youtube, tmp_path, Kind.SHORT, 1, clients=["android_vr", "visionos"]).error is None
    youtube.switch(clients="real")

    finding = ask_one(youtube, tmp_path, Kind.SHORT, 2)

    assert set(finding.sounds) == {"251/TVHTML5", "233/VISIONOS", "234/VISIONOS"}
    assert youtube.totals()["player_scripts"] == 1


def test_a_refused_client_is_missed_while_another_serves(youtube: Spawned, tmp_path: Path) -> None:
    youtube.switch(refused_clients={"TVHTML5": "noapp"})
    assert ask_one(youtube, tmp_path, Kind.SHORT, 1).sounds == ["251/VISIONOS"]

    youtube.switch(refused_clients={"*": "noapp"})
    finding = ask_one(youtube, tmp_path, Kind.SHORT, 2)

    assert "not available on this app" in (finding.error or "")


def test_sabr_takes_the_links_from_some_or_all_clients(youtube: Spawned, tmp_path: Path) -> None:
    youtube.switch(sabr_clients=["TVHTML5"])
    assert ask_one(youtube, tmp_path, Kind.SHORT, 1).sounds == ["251/VISIONOS"]

    youtube.switch(sabr_clients=["*"])
    finding = ask_one(youtube, tmp_path, Kind.SHORT, 2)

    assert "Requested format is not available" in (finding.error or "")
    assert sum("missing a URL" in warning for warning in finding.warnings) == 2


def test_media_of_one_client_are_refused_at_once_or_from_an_offset_on(youtube: Spawned, tmp_path: Path) -> None:
    youtube.switch(refused_media={"TVHTML5": 0})
    assert "HTTP Error 403" in (ask_one(youtube, tmp_path, Kind.CLIP, 1).error or "")
    assert ask_one(youtube, tmp_path, Kind.CLIP, 2, clients=["visionos"]).error is None

    youtube.switch(refused_media={"TVHTML5": 100_000})
    assert "HTTP Error 403" in (ask_one(youtube, tmp_path, Kind.CLIP, 3).error or "")

    assert youtube.counts(video_id(Kind.CLIP, 1)).media_bytes == 0
    assert youtube.counts(video_id(Kind.CLIP, 3)).media_bytes == 100_000


async def test_a_running_download_ends_when_its_client_is_refused(tmp_path: Path) -> None:
    async with FakeYouTube.start(tmp_path, pace=Pace(slow_bytes_per_second=50_000)) as youtube:
        await youtube.prepare([Kind.SLOW])
        trusted = ssl.create_default_context(cafile=str(youtube.ca_file))
        link = f"https://rr1---sn-fake.googlevideo.com/videoplayback?id={video_id(Kind.SLOW)}&itag=251&c=TVHTML5"
        async with aiohttp.ClientSession() as session:
            async with session.get(link, proxy=youtube.proxy_url, ssl=trusted) as response:
                await response.content.readexactly(1000)
                youtube.switch(refused_media={"TVHTML5": 0})
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
            async with session.get(link, proxy=youtube.proxy_url, ssl=trusted) as response:
                assert response.status == 403


def test_links_made_before_are_refused_and_fresh_ones_are_served(youtube: Spawned, tmp_path: Path) -> None:
    old = ask_one(youtube, tmp_path, Kind.SHORT, download=False).links["251"]
    assert fetch(youtube, old)[0] == 200

    youtube.expire_links()

    assert fetch(youtube, old)[0] == 403
    assert ask_one(youtube, tmp_path, Kind.SHORT).error is None


def test_a_range_in_the_link_is_answered_like_one_in_the_header(youtube: Spawned, tmp_path: Path) -> None:
    link = ask_one(youtube, tmp_path, Kind.SHORT, download=False).links["251"]
    whole = fetch(youtube, link)[1]

    assert fetch(youtube, link, Range="bytes=100-299") == (206, whole[100:300])
    assert fetch(youtube, f"{link}&range=100-299") == (200, whole[100:300])
    assert fetch(youtube, link, Range=f"bytes={len(whole)}-")[0] == 416


def test_a_link_with_an_unsolved_challenge_is_refused(youtube: Spawned, tmp_path: Path) -> None:
    link = ask_one(youtube, tmp_path, Kind.CHALLENGE, download=False).links["251"]

    assert fetch(youtube, link)[0] == 200
    assert fetch(youtube, re.sub(r"([?&]n=)[^&]*", r"\1unsolved", link))[0] == 403
    assert fetch(youtube, re.sub(r"([?&]sig=)[^&]*", r"\1unsolved", link))[0] == 403


def test_a_range_without_an_end_is_refused_where_only_bounded_ones_are_served(youtube: Spawned, tmp_path: Path) -> None:
    link = ask_one(youtube, tmp_path, Kind.BOUNDED_RANGES, download=False).links["251"]

    assert fetch(youtube, link)[0] == 403
    assert fetch(youtube, link, Range="bytes=0-")[0] == 403
    assert fetch(youtube, link, Range="bytes=0-99")[0] == 206


# Players.


def test_players_take_turns_and_each_is_solved(youtube: Spawned, tmp_path: Path) -> None:
    youtube.switch(players=["solvable:1", "solvable:2"])
    findings = [ask_one(youtube, tmp_path, Kind.CHALLENGE, number) for number in (1, 2)]

    youtube.switch(players=["solvable:3"])
    findings.append(ask_one(youtube, tmp_path, Kind.CHALLENGE, 3))

    assert [finding.error for finding in findings] == [None] * 3
    assert youtube.totals()["player_scripts"] == 3


def test_a_player_that_cannot_be_solved_costs_only_the_clients_that_need_it(youtube: Spawned, tmp_path: Path) -> None:
    youtube.switch(clients="real", players=["unsolvable:7"])

    finding = ask_one(youtube, tmp_path, Kind.SHORT)

    assert finding.error is None
    assert "251/VISIONOS" in finding.sounds
    assert any("n challenge solving failed" in warning for warning in finding.warnings)


def test_a_player_that_solves_to_a_wrong_value_is_answered_with_403(youtube: Spawned, tmp_path: Path) -> None:
    youtube.switch(clients="real", players=["misleading:7"])

    finding = ask_one(youtube, tmp_path, Kind.SHORT)

    assert "HTTP Error 403" in (finding.error or "")


# Limits and outages.


def through(youtube: Spawned, user: str) -> Spawned:
    """Return the same fake by another address: the proxy's user name stands for one."""
    return dataclasses.replace(youtube, proxy_url=youtube.proxy_url.replace("http://", f"http://{user}:secret@"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("rate_limited", "has been rate-limited by YouTube"),
        ("bot_check", "Sign in to confirm you"),
        ("captcha", "Failed to extract any player response"),
        ("429", "Failed to extract any player response"),
    ],
)
def test_an_address_that_asks_too_much_is_refused_and_another_is_not(
    answer: str, error: str, youtube: Spawned, tmp_path: Path
) -> None:
    youtube.switch(limit={"extractions": 1, "answer": answer})
    assert ask_one(youtube, tmp_path, Kind.SHORT, 1).error is None

    assert error in (ask_one(youtube, tmp_path, Kind.SHORT, 2).error or "")
    assert ask_one(through(youtube, "elsewhere"), tmp_path, Kind.SHORT, 3).error is None

    youtube.switch(limit=None)
    assert ask_one(youtube, tmp_path, Kind.SHORT, 4).error is None
    assert bool(youtube.totals()["captcha_pages"]) == (answer == "captcha")


def test_a_new_guest_session_begins_a_new_count(youtube: Spawned, tmp_path: Path) -> None:
    youtube.switch(limit={"extractions": 1, "per": "visitor"})

    # yt-dlp without cookies is a new guest each time.
    assert [ask_one(youtube, tmp_path, Kind.SHORT, number).error for number in (1, 2)] == [None, None]
    same_guest = {"visitor_data": ["CgtmYWtlVis99999999"], "player_skip": ["webpage"]}
    attempts = [
        ask_one(youtube, tmp_path, Kind.SHORT, number, clients=["visionos"], arguments=same_guest) for number in (3, 4)
    ]

    assert attempts[0].error is None
    assert "rate-limited" in (attempts[1].error or "")


def test_a_limit_is_lifted_after_a_pause_without_requests() -> None:
    now = 0.0
    keeper = LimitKeeper(lambda: now)
    limit = Limit(extractions=2, pause_seconds=60)

    def is_spent() -> bool:
        return keeper.is_spent(limit, visitor="", address="one", request="page")

    assert [is_spent() for _ in range(3)] == [False, False, True]
    now = 59.0
    assert is_spent()
    now = 118.0
    assert is_spent()
    now = 178.0
    assert [is_spent() for _ in range(3)] == [False, False, True]


def test_pages_and_the_api_fail_apart(youtube: Spawned, tmp_path: Path) -> None:
    youtube.switch(page="captcha")
    assert ask_one(youtube, tmp_path, Kind.SHORT, 1).error is None

    youtube.switch(page="no", api="500")
    assert "No video formats found" in (ask_one(youtube, tmp_path, Kind.SHORT, 2).error or "")

    youtube.switch(api="reset")
    assert "No video formats found" in (ask_one(youtube, tmp_path, Kind.SHORT, 3).error or "")

    youtube.switch(page="reset")
    assert RESET in "".join(ask_one(youtube, tmp_path, Kind.SHORT, 4).warnings)


@pytest.mark.parametrize("outage", ["403", "429", "500", "reset"])
def test_the_media_server_fails_alone(outage: str, youtube: Spawned, tmp_path: Path) -> None:
    youtube.switch(media=outage)

    finding = ask_one(youtube, tmp_path, Kind.SHORT)

    assert (RESET if outage == "reset" else f"HTTP Error {outage}") in (finding.error or "")


@pytest.mark.parametrize(
    "changes", [{"unknown": 1}, {"page": "404"}, {"players": ["perfect:1"]}, {"refused_media": {"NETSCAPE": 0}}]
)
def test_an_unknown_switch_or_value_changes_nothing(changes: dict[str, Any], youtube: Spawned) -> None:
    with pytest.raises(urllib.error.HTTPError, match="422"):
        youtube.switch(sabr_clients=["*"], **changes)

    assert youtube.switches["sabr_clients"] == []


async def test_the_switches_of_a_fake_in_this_process_work_alike(tmp_path: Path) -> None:
    async with FakeYouTube.start(tmp_path) as youtube:
        youtube.switch(sabr_clients=["*"])
        finding = (await asyncio.to_thread(ask, youtube, tmp_path, [video_id(Kind.SHORT)]))[0]
        youtube.reset()
        cured = (await asyncio.to_thread(ask, youtube, tmp_path, [video_id(Kind.SHORT)]))[0]

        assert "Requested format is not available" in (finding.error or "")
        assert cured.error is None
        with pytest.raises(ValueError, match="NETSCAPE"):
            youtube.switch(sabr_clients=["NETSCAPE"])
