"""The real yt-dlp meets the kinds of the fake YouTube that are as unkind as YouTube: refusals, clients, manifests."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_youtube import BEHAVIOURS, UNKIND, Kind, Pace, Spawned, spawn, video_id
from tests.fake_youtube.evidence import MESSAGES, MESSAGES_FILE, Finding, ask, ask_all, fetch
from tests.fake_youtube.media import seconds_of
from tests.fake_youtube.switches import Switches
from tests.stand.hearing import decoded_seconds

pytestmark = pytest.mark.xdist_group("fake_youtube_unkind")

KINDS = [kind for kind in Kind if kind in UNKIND]
FAILING = [kind for kind in KINDS if kind in MESSAGES]
# What yt-dlp alone takes for a success; the trailer is one, but of another video.
WHOLE = [kind for kind in KINDS if kind not in MESSAGES and kind is not Kind.TRAILER]
SABR = r"Some \w+ client https formats have been skipped as they are missing a URL\. YouTube may have enabled"
IMAGES = r"Only images are available for download"
SOLVING = r"n challenge solving failed: Some formats may be missing"
# Patterns that must be among the warnings, in this order.
WARNINGS = {
    Kind.SABR: (SABR, SABR, IMAGES),
    Kind.SABR_SOME: (SABR,),
    Kind.UNSOLVABLE: (r"Signature solving failed", SOLVING, IMAGES),
    Kind.UNSOLVABLE_TV: (r"Signature solving failed", SOLVING),
    Kind.DRM_TV: (r"have been skipped as they are DRM protected", r"drm protected and only images are available"),
    Kind.API_403: (r"YouTube said: ERROR - The caller does not have permission", r"HTTP Error 403: Forbidden"),
    Kind.PRECONDITION: (r"YouTube said: ERROR - Precondition check failed", r"HTTP Error 400: Bad Request"),
    Kind.QUOTA: (r"YouTube said: ERROR - Resource has been exhausted", r"HTTP Error 429: Too Many Requests"),
    Kind.SORRY: (r"Unable to download webpage: HTTP Error 429", r"Unable to download API page: HTTP Error 429"),
    Kind.SORRY_PAGE: (r"Unable to download webpage: HTTP Error 429",),
    Kind.PAGE_ONLY_429: (r"Unable to download webpage: HTTP Error 429",),
    Kind.TRACK_SHORTER: (r"formats are possibly damaged",),
}
# The formats with sound that yt-dlp lists, each with the client whose link it has.
SOUNDS = {
    Kind.BY_CLIENT: {"251/TVHTML5", "233/VISIONOS", "234/VISIONOS"},
    Kind.SABR_SOME: {"251/VISIONOS"},
    Kind.UNSOLVABLE_TV: {"251/VISIONOS", "233/VISIONOS", "234/VISIONOS"},
    Kind.VISIONOS_FORBIDDEN: {"251/TVHTML5", "233/VISIONOS", "234/VISIONOS"},
    Kind.AGE_EMBEDDABLE: {"251/WEB_EMBEDDED_PLAYER"},
    Kind.FOR_KIDS: {"251/TVHTML5"},
    Kind.EMBED_REFUSED: {"251/TVHTML5"},
    Kind.HLS: {"233/TVHTML5", "234/TVHTML5"},
    Kind.HLS_PACKED: {"233/TVHTML5", "234/TVHTML5"},
    Kind.HLS_CHALLENGE: {"233/TVHTML5", "234/TVHTML5"},
    Kind.MUXED_AND_HLS: {"18/TVHTML5", "233/TVHTML5", "234/TVHTML5"},
    Kind.DASH: {"140/TVHTML5"},
    Kind.POST_LIVE_SEGMENTS: {"140/TVHTML5"},
}


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    with spawn(tmp_path_factory.mktemp("youtube"), prepare=KINDS, pace=Pace(delay_seconds=0.3)) as running:
        yield running


@pytest.fixture(scope="module")
def findings(youtube: Spawned, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Finding]:
    """One extraction and download of every unkind kind."""
    return ask_all(youtube, tmp_path_factory.mktemp("findings"), KINDS)


@pytest.mark.parametrize("kind", FAILING)
def test_a_failing_kind_causes_the_real_message_of_yt_dlp(kind: Kind, findings: dict[Kind, Finding]) -> None:
    assert re.search(MESSAGES[kind], findings[kind].error or "")


@pytest.mark.parametrize("kind", FAILING)
def test_the_collected_messages_agree_with_the_table(kind: Kind) -> None:
    evidence = json.loads(MESSAGES_FILE.read_text(encoding="utf-8"))

    assert re.search(MESSAGES[kind], evidence[kind]["error"])


@pytest.mark.parametrize("kind", WHOLE)
def test_another_kind_downloads_and_decodes_to_the_length_of_its_track(
    kind: Kind, findings: dict[Kind, Finding]
) -> None:
    finding = findings[kind]

    assert finding.error is None
    assert decoded_seconds(finding.file) == pytest.approx(seconds_of(BEHAVIOURS[kind].media), abs=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_yt_dlp_warns_of_what_it_had_to_leave_out(kind: Kind, findings: dict[Kind, Finding]) -> None:
    warnings = "\n".join(findings[kind].warnings)

    if kind in WARNINGS:
        assert re.search(".*".join(WARNINGS[kind]), warnings, re.DOTALL)
    elif kind in WHOLE:
        assert not warnings


@pytest.mark.parametrize("kind", SOUNDS)
def test_yt_dlp_lists_the_formats_of_the_clients_that_are_served(kind: Kind, findings: dict[Kind, Finding]) -> None:
    assert set(findings[kind].sounds) == SOUNDS[kind]


def test_a_trailer_comes_instead_of_the_film_and_without_a_warning(findings: dict[Kind, Finding]) -> None:
    finding = findings[Kind.TRAILER]

    assert finding.found is not None
    assert (finding.error, finding.warnings, finding.found["id"]) == (None, (), "short__0001")


@pytest.mark.parametrize(
    ("kind", "status"),
    [(Kind.WAS_LIVE, "was_live"), (Kind.POST_LIVE, "post_live"), (Kind.POST_LIVE_SEGMENTS, "post_live")],
)
def test_a_recorded_stream_says_what_it_is(kind: Kind, status: str, findings: dict[Kind, Finding]) -> None:
    found = findings[kind].found

    assert found is not None
    assert (found["live_status"], found["duration"]) == (status, 30)


@pytest.mark.parametrize(
    ("kind", "protocols"),
    [
        (Kind.HLS, {"m3u8_native"}),
        (Kind.HLS_PACKED, {"m3u8_native"}),
        (Kind.DASH, {"http_dash_segments"}),
        (Kind.POST_LIVE_SEGMENTS, {"http_dash_segments"}),
        (Kind.MUXED_AND_HLS, {"https", "m3u8_native"}),
    ],
)
def test_a_manifest_offers_segments(kind: Kind, protocols: set[str], findings: dict[Kind, Finding]) -> None:
    assert {each["protocol"] for each in findings[kind].formats if each["acodec"] != "none"} == protocols


@pytest.mark.parametrize("kind", [Kind.REFUSED_ONCE, Kind.EMPTY_ONCE, Kind.BUSY_TWICE])
def test_a_second_attempt_cures_what_fails_once(kind: Kind, youtube: Spawned, tmp_path: Path) -> None:
    identifier = video_id(kind, 7)

    errors = [ask(youtube, tmp_path, [identifier])[0].error for _ in range(2)]

    assert errors[0] is not None
    assert errors[1] is None


@pytest.mark.parametrize("kind", [Kind.TV_FORBIDDEN, Kind.TV_FORBIDDEN_LATE, Kind.DRM_TV])
def test_another_client_cures_what_only_the_television_clients_suffer(
    kind: Kind, youtube: Spawned, tmp_path: Path
) -> None:
    finding = ask(youtube, tmp_path, [video_id(kind, 7)], clients=["visionos"])[0]

    assert finding.error is None
    assert decoded_seconds(finding.file) == pytest.approx(seconds_of(BEHAVIOURS[kind].media), abs=0.15)


@pytest.mark.parametrize(
    ("number", "format_id", "error"),
    # yt-dlp skips a segment that is refused, and says nothing of the status.
    [(5, "251", "HTTP Error 403"), (6, "234", "The downloaded file is empty")],
)
def test_links_and_segments_of_a_forbidden_client_are_refused(
    number: int, format_id: str, error: str, youtube: Spawned, tmp_path: Path
) -> None:
    identifier = video_id(Kind.VISIONOS_FORBIDDEN, number)

    finding = ask(youtube, tmp_path, [identifier], clients=["visionos"], format=format_id)[0]

    assert error in (finding.error or "")
    assert youtube.counts(identifier).media_bytes == 0


def test_a_refusal_from_a_part_on_leaves_the_part(youtube: Spawned, tmp_path: Path) -> None:
    identifier = video_id(Kind.TV_FORBIDDEN_LATE, 8)
    ask(youtube, tmp_path, [identifier])

    whole = ask(youtube, tmp_path, [video_id(Kind.TV_FORBIDDEN_LATE, 9)], clients=["visionos"])[0].file.stat().st_size

    assert youtube.counts(identifier).media_bytes == int(whole * 0.35)


def test_fresh_links_finish_a_download_of_which_each_link_serves_a_third(youtube: Spawned, tmp_path: Path) -> None:
    identifier = video_id(Kind.FORBIDDEN_AFTER_PART, 7)

    attempts = [ask(youtube, tmp_path, [identifier])[0] for _ in range(3)]

    assert [attempt.error is None for attempt in attempts] == [False, False, True]
    assert decoded_seconds(attempts[-1].file) == pytest.approx(30, abs=0.15)
    # yt-dlp resumes: no byte was sent twice.
    assert youtube.counts(identifier).media_bytes == attempts[-1].file.stat().st_size


def test_smaller_ranges_cure_a_server_that_refuses_large_ones(youtube: Spawned, tmp_path: Path) -> None:
    finding = ask(youtube, tmp_path, [video_id(Kind.SMALL_RANGES, 7)], chunk_bytes=1 << 20)[0]

    assert finding.error is None
    assert decoded_seconds(finding.file) == pytest.approx(30, abs=0.15)


def test_yt_dlp_waits_for_the_end_of_an_advertisement(youtube: Spawned, tmp_path: Path) -> None:
    finding = ask(youtube, tmp_path, [video_id(Kind.AD, 2)], verbose=True)[0]

    assert finding.error is None
    assert any("as required by the site" in line for line in finding.lines)
    assert any("Detected a 2s ad for tv_samsung" in line for line in finding.lines)


def test_media_are_refused_before_the_end_of_an_advertisement(youtube: Spawned, tmp_path: Path) -> None:
    finding = ask(youtube, tmp_path, [video_id(Kind.AD_SKIPPABLE, 600)], download=False, verbose=True)[0]

    assert any("Detected a 90s ad skippable after 600s for visionos" in line for line in finding.lines)
    assert fetch(youtube, finding.links["251"])[0] == 403


def test_every_kind_has_a_behaviour() -> None:
    assert set(BEHAVIOURS) == set(Kind)
    assert all(dataclasses.is_dataclass(behaviour) for behaviour in BEHAVIOURS.values())


@pytest.mark.parametrize("kind", Kind)
def test_the_readme_lists_every_kind(kind: Kind) -> None:
    readme = MESSAGES_FILE.with_name("README.md").read_text(encoding="utf-8")
    behaviour = BEHAVIOURS[kind]

    row = f"| `Kind.{kind.name}` | `{video_id(kind, 7)}` | {behaviour.summary} | `{behaviour.expected}` |"

    assert row in readme


@pytest.mark.parametrize("switch", Switches.__struct_fields__)
def test_the_readme_explains_every_switch(switch: str) -> None:
    readme = MESSAGES_FILE.with_name("README.md").read_text(encoding="utf-8")

    assert f"`{switch}`" in readme
