"""`ytmp3 doctor`: what each player client serves, found by the processes of a conversion."""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest

from tests.fake_youtube import Kind, Spawned, spawn, video_id, watch_url
from tests.stand.pipeline import limits
from tests.stand.service_process import ROOT, egress
from tests.stand.valkey import Valkey
from ytmp3.converter.doctor import Asked, Doctor, Findings, Surroundings, WayTried, ways_out
from ytmp3.converter.doctor_report import as_json, as_text, outcome_of, serves
from ytmp3.converter.settings import ToolSettings
from ytmp3.converter.youtube.events import Facts, Probed, Sample
from ytmp3.converter.youtube.probing import piece_of_playlist
from ytmp3.core.examination import MEANINGS, Outcome
from ytmp3.core.identities import LARGEST_BURST
from ytmp3.core.ids import VideoId

LATER_SECONDS = 20.0
"""Place of the second sample: within the clips of the fake, which have 30 s."""


async def examined(youtube: Spawned, video: str, *, seconds: float = 60.0, **changed: Any) -> Findings:
    settings: dict[str, Any] = {
        "ffmpeg_path": None,
        "egress_proxy": youtube.proxy_url,
        "egress_ca_file": youtube.ca_file,
        "cookies_file": None,
        "extract_concurrency": 1,
        "encode_concurrency": 1,
    }
    ways = ways_out(ToolSettings(**settings | changed))
    doctor = Doctor(
        limits(extract_seconds=seconds), lambda _: None, later_seconds=LATER_SECONDS, samples_seconds=seconds
    )
    return await doctor.examine(ways, VideoId(video))


def clients_of(findings: Findings) -> dict[str, Probed]:
    (way,) = findings.ways
    return {asked.client: asked.found for asked in way.clients}


async def test_each_client_is_reported_with_what_it_serves(tmp_path: Path) -> None:
    with spawn(tmp_path, prepare=[Kind.CLIP]) as youtube:
        youtube.switch(clients="real", refused_media={"TVHTML5": 200_000})
        findings = await examined(
            youtube, video_id(Kind.CLIP), clients=(("visionos",), ("default", "web_embedded", "mweb"))
        )
    found = clients_of(findings)
    assert list(found) == ["visionos", "tv_samsung", "web", "web_embedded", "mweb"]
    assert {client for client, each in found.items() if serves(each)} == {"visionos", "web_embedded"}
    light, scrambled, without_links, late = (found[name] for name in ("visionos", "web_embedded", "web", "tv_samsung"))
    assert not light.is_solved
    assert scrambled.is_solved
    assert light.later is not None
    assert light.later.size_bytes > 0
    assert light.family == 4
    assert light.requests > 0
    assert light.peak_bytes > 0
    assert light.track_seconds == 30
    assert without_links.code == "extractor_broken"
    assert without_links.facts.signs["sabr_only"]
    # Its first bytes are served, and those of later times are refused.
    assert late.code == ""
    assert not serves(late)
    assert outcome_of(findings) is Outcome.WORKS
    text = as_text(findings)
    assert MEANINGS[Outcome.WORKS] in text
    assert "solved" in text
    report = msgspec.json.decode(msgspec.json.encode(as_json(findings)))
    assert [client["works"] for client in report["ways"][0]["clients"]] == [True, False, False, True, False]
    # `mweb` needs a token for its media, and its formats are left out without one.
    assert report["ways"][0]["clients"][4]["token"] == "needed, and none there"


async def test_a_client_that_is_asked_later_serves_alone(youtube: Spawned) -> None:
    findings = await examined(youtube, video_id(Kind.VISIONOS_FORBIDDEN), clients=(("visionos",), ("tv",)))
    assert outcome_of(findings) is Outcome.DEGRADED, as_text(findings)
    assert clients_of(findings)["visionos"].beginning == Sample(
        size_bytes=0, seconds=ANY, error="HTTP Error 403: Forbidden"
    )


@pytest.mark.parametrize("kind", [Kind.HLS, Kind.DASH])
async def test_samples_are_taken_of_manifests_too(kind: Kind, youtube: Spawned) -> None:
    found = clients_of(await examined(youtube, video_id(kind), clients=(("visionos",),)))["visionos"]
    assert serves(found)
    assert found.later is not None
    assert found.later.size_bytes > 0


def test_the_segment_of_a_time_is_found_in_a_playlist() -> None:
    url = "https://a.googlevideo.com/playlist/index.m3u8"
    playlist = "#EXTM3U\n#EXT-X-MAP:URI=x\n#EXTINF:10.0,\nfirst\n#EXTINF:5.5,title\nhttps://b.googlevideo.com/second\n"
    found = [piece_of_playlist(playlist, url, seconds) for seconds in (0, 9.9, 10, 15.5)]
    urls = [piece and piece.url for piece in found]
    first, second = "https://a.googlevideo.com/playlist/first", "https://b.googlevideo.com/second"
    assert urls == [first, first, second, None]


async def test_a_client_that_never_answers_is_given_up(youtube: Spawned) -> None:
    findings = await examined(youtube, video_id(Kind.HANGS), seconds=0.5, clients=(("visionos",),))
    assert clients_of(findings)["visionos"].code == "upstream_timeout"


async def doctor_output(url: str, **settings: str) -> tuple[int | None, str, str]:
    """Return the exit code of the command, its report, and the steps that it names."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ytmp3", "doctor", url),
        cwd=ROOT,
        env=settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, steps = (part.decode() for part in await process.communicate())
    return process.returncode, output, steps


async def test_the_command_prints_a_report_without_secrets(youtube: Spawned, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    proxy = youtube.proxy_url.replace("://", "://someone:proxysecret@")
    cookies = tmp_path / "cookies"
    cookies.write_text("# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t2145916800\tSID\tcookiesecret\n")
    settings = {"EGRESS_PROXY": proxy, "EGRESS_CA_FILE": str(youtube.ca_file), "COOKIES_FILE": str(cookies)}
    # Not every user has a home folder, which the default is in.
    settings["DATA_DIR"] = str(tmp_path / "data")
    settings |= {"TMPDIR": str(tmp_path / "temporary"), "YOUTUBE_CLIENTS": "tv"}
    status, output, steps = await doctor_output(watch_url(video_id(Kind.SHORT)), **settings)
    assert status == 0, steps
    assert "not counted in the hourly budget: 2 of 2 (without Redis" in output
    assert "exit code 0" in output
    assert "client tv (1 of 1)" in steps
    for secret in ("someone", "proxysecret", "cookiesecret", "videoplayback", str(tmp_path)):
        assert secret not in output + steps
    assert not list((tmp_path / "temporary").iterdir())


async def test_extractions_count_in_the_hourly_budget_of_the_service(youtube: Spawned, tmp_path: Path) -> None:
    redis = Valkey(tmp_path, settings={"maxmemory-policy": "noeviction"})
    redis.start()
    settings = egress(youtube) | {"REDIS_ADDR": redis.address, "EGRESS_VIDEOS_PER_HOUR": "240"}
    settings |= {"DATA_DIR": str(tmp_path / "data"), "YOUTUBE_CLIENTS": "visionos"}
    link = watch_url(video_id(Kind.SHORT))
    try:
        status, output, steps = await doctor_output(link, **settings)
        with contextlib.closing(redis.client()) as client:
            values = [client.get(key) for key in client.keys("*identities*")]
    finally:
        redis.stop()
    assert status == 0, steps
    assert "extractions counted in the hourly budget: 1\n" in output
    assert msgspec.json.decode(values[0] or b"")["default"]["tokens"] == LARGEST_BURST - 1
    status, output, steps = await doctor_output(link, **settings)
    assert status == 0, steps
    assert "not counted in the hourly budget: 1 of 1 (the job store: " in output


def test_names_that_a_child_invents_do_not_appear_in_a_report() -> None:
    """The child works with bytes of strangers, so it is not trusted."""
    facts = Facts(signs={"invented": 3, "po_token": -1})
    found = Probed(facts=facts, requests=0, extract_seconds=0, cpu_seconds=0, peak_bytes=0, code="other")
    clients = (Asked(client="visionos", group=0, found=found),)
    about = Surroundings(ytmp3="0", python="3", system="Linux", time="now", extractor_age_days=None)
    way = WayTried(name="default", description="direct", clients=clients)
    findings = Findings(about=about, video_id=VideoId("-"), tools=(), ways=(way,))
    assert outcome_of(findings) is Outcome.BROKEN
    assert "invented" not in as_text(findings)
