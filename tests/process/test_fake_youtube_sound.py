"""Which of several audio tracks the real yt-dlp takes from the fake YouTube: often not the original one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_youtube import BEHAVIOURS, Kind, Spawned, spawn, video_id
from tests.fake_youtube.behaviour import Media
from tests.fake_youtube.evidence import Finding, ask
from tests.fake_youtube.media import TONES
from tests.stand.hearing import tone_hertz

pytestmark = pytest.mark.xdist_group("fake_youtube_sound")

# What yt-dlp takes by its own order, and the language that it gives each format.
TAKEN = {
    Kind.DUBBED: Media.DUBBED_OPUS,
    Kind.DUBBED_BETTER: Media.DUBBED_OPUS,
    Kind.DUBBED_ALIKE: Media.ORIGINAL_OPUS,
    Kind.DESCRIPTIVE: Media.DESCRIPTION_SURROUND,
    Kind.LEVELLED: Media.ORIGINAL_OPUS,
    Kind.SURROUND: Media.SURROUND_AAC,
    Kind.AC3: Media.SURROUND_AC3,
    Kind.EAC3: Media.SURROUND_EAC3,
    Kind.AMBISONIC: Media.AMBISONIC,
}
LANGUAGES = {
    Kind.DUBBED: {"en-US", "de-DE"},
    Kind.DUBBED_BETTER: {"en-US", "de-DE"},
    Kind.DUBBED_ALIKE: {"en-US", "de-DE"},
    Kind.DESCRIPTIVE: {"en-US", "en-US-desc"},
}
CHANNELS = {Kind.DESCRIPTIVE: 6, Kind.SURROUND: 6, Kind.AC3: 6, Kind.EAC3: 6, Kind.AMBISONIC: 4}
# Their tracks are the same sound in two codecs.
ALIKE = {Kind.MUSIC, Kind.CHAPTERS}
# With language first and two channels second, it takes the original or the plain stereo track.
SORT = ["lang", "channels:2"]


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    with spawn(tmp_path_factory.mktemp("youtube"), prepare=TAKEN) as running:
        yield running


def ask_tracks(youtube: Spawned, folder: Path, **options: Any) -> dict[Kind, Finding]:
    return dict(zip(TAKEN, ask(youtube, folder, map(video_id, TAKEN), **options), strict=True))


@pytest.fixture(scope="module")
def findings(youtube: Spawned, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Finding]:
    return ask_tracks(youtube, tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module")
def sorted_findings(youtube: Spawned, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Finding]:
    return ask_tracks(youtube, tmp_path_factory.mktemp("sorted"), sort=SORT)


@pytest.mark.parametrize("kind", TAKEN)
def test_yt_dlp_takes_this_track_by_its_own_order(kind: Kind, findings: dict[Kind, Finding]) -> None:
    finding = findings[kind]

    assert finding.error is None
    assert tone_hertz(finding.file) == pytest.approx(TONES[TAKEN[kind]], abs=10)


@pytest.mark.parametrize("kind", TAKEN)
def test_language_and_channels_first_give_the_original_in_stereo(
    kind: Kind, sorted_findings: dict[Kind, Finding]
) -> None:
    assert tone_hertz(sorted_findings[kind].file) == pytest.approx(TONES[Media.ORIGINAL_OPUS], abs=10)


@pytest.mark.parametrize("kind", LANGUAGES)
def test_yt_dlp_sees_the_languages_of_the_tracks(kind: Kind, findings: dict[Kind, Finding]) -> None:
    assert {each["language"] for each in findings[kind].formats if each["acodec"] != "none"} == LANGUAGES[kind]


@pytest.mark.parametrize("kind", CHANNELS)
def test_yt_dlp_sees_the_number_of_channels(kind: Kind, findings: dict[Kind, Finding]) -> None:
    channels = {each["audio_channels"] for each in findings[kind].formats if each["acodec"] != "none"}

    assert channels == {2, CHANNELS[kind]}


def test_every_kind_with_several_tracks_is_tested_here() -> None:
    assert {kind for kind, behaviour in BEHAVIOURS.items() if behaviour.tracks} == TAKEN.keys() | ALIKE
