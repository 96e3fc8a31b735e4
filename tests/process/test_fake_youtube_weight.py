"""With the weight `real`, the fake YouTube costs yt-dlp what YouTube costs: page, formats, player script."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, spawn, video_id, watch_url
from tests.fake_youtube.evidence import ask, fetch
from tests.stand.hearing import decoded_seconds

pytestmark = pytest.mark.xdist_group("fake_youtube_weight")

MIB = 2**20


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    with spawn(tmp_path_factory.mktemp("youtube"), prepare=[Kind.SHORT], weight="real") as running:
        yield running


def test_the_page_and_the_player_script_have_the_size_of_youtubes(youtube: Spawned) -> None:
    page = gzip.decompress(fetch(youtube, watch_url(video_id(Kind.SHORT, 9)))[1])
    found = re.search(rb'"PLAYER_JS_URL":"([^"]+)"', page)
    assert found is not None
    script = gzip.decompress(fetch(youtube, f"https://www.youtube.com{found[1].decode()}")[1])

    assert 1_200_000 < len(page) < 1_400_000
    assert 2_600_000 < len(script) < 2_800_000
    assert page.count(b'"languageCode"') == 157


def test_a_default_extraction_reads_84_formats_and_solves_the_player_script(youtube: Spawned, tmp_path: Path) -> None:
    before = youtube.totals()["player_scripts"]

    finding = ask(youtube, tmp_path, [video_id(Kind.SHORT, 0)])[0]

    assert (finding.error, finding.warnings) == (None, ())
    assert decoded_seconds(finding.file) == pytest.approx(4, abs=0.15)
    https = [each for each in finding.formats if each["protocol"] == "https"]
    assert len(https) == 84
    assert youtube.totals()["player_scripts"] == before + 1
    # Parsing some megabytes of JavaScript takes deno about 280 MB.
    assert finding.children_peak_bytes > 150 * MIB


def test_a_client_that_needs_no_javascript_reads_174_formats_and_takes_the_original(
    youtube: Spawned, tmp_path: Path
) -> None:
    before = youtube.totals()["player_scripts"]

    finding = ask(youtube, tmp_path, [video_id(Kind.SHORT, 3)], clients=["visionos"])[0]

    assert (finding.error, finding.warnings) == (None, ())
    https = [each for each in finding.formats if each["protocol"] == "https"]
    assert len(https) == 174
    assert {each["language"] for each in https if each["acodec"] != "none"} >= {"en-US", "de-DE", "uk"}
    assert finding.found is not None
    assert "acont%3Doriginal" in finding.links[finding.found["format_id"]]
    assert youtube.totals()["player_scripts"] == before


def test_a_heavy_link_has_the_length_of_youtubes(youtube: Spawned, tmp_path: Path) -> None:
    finding = ask(youtube, tmp_path, [video_id(Kind.SHORT, 1)], clients=["visionos"], download=False)[0]

    assert all(700 < len(each["url"]) < 1400 for each in finding.formats if each["protocol"] == "https")
