"""Which format is downloaded: the original sound, in stereo, in the best quality."""

from typing import Any

import pytest

from ytmp3.converter.youtube.choice import Wanted, best_of, candidates, track_seconds
from ytmp3.core.language import Language
from ytmp3.core.recipe import Format

SOUND = {"protocol": "https", "vcodec": "none", "acodec": "opus", "audio_channels": 2, "language_preference": -1}


def sound(format_id: str, **other: Any) -> dict[str, Any]:
    return {**SOUND, "format_id": format_id, **other}


ORIGINAL = {"language_preference": 10}
DESCRIPTION = {"language_preference": -10}
MUXED = {"vcodec": "avc1", "acodec": "mp4a.40.2"}
HLS = {"protocol": "m3u8_native", "acodec": None}


# In yt-dlp's order: the last one is what yt-dlp itself would take.
@pytest.mark.parametrize(
    ("best", "formats"),
    [
        ("140", [sound("140", **ORIGINAL, acodec="mp4a.40.2"), sound("251")]),
        ("249", [sound("249", **ORIGINAL), sound("251")]),
        ("233", [sound("233", **HLS, **ORIGINAL), sound("251")]),
        ("251", [sound("251", **ORIGINAL), sound("258", **DESCRIPTION, audio_channels=6)]),
        ("251", [sound("249"), sound("251")]),
        ("251", [sound("251"), sound("258", acodec="mp4a.40.2", audio_channels=6)]),
        ("251", [sound("251"), sound("380", acodec="ac-3", audio_channels=6)]),
        ("258", [sound("258", acodec="mp4a.40.2", audio_channels=6), sound("328", acodec="ec-3", audio_channels=6)]),
        ("251", [sound("251"), sound("251-drc")]),
        ("251", [sound("251"), sound("338", audio_channels=4)]),
        ("251", [sound("233", **HLS), sound("251"), sound("18", **MUXED)]),
        ("234", [sound("233", **HLS), sound("234", **HLS), sound("18", **MUXED)]),
        ("140", [sound("18", **MUXED), sound("140", protocol="http_dash_segments")]),
        ("18", [sound("18", **MUXED), sound("96", protocol="m3u8_native", vcodec="avc1", acodec="mp4a.40.2")]),
        ("140", [sound("140"), sound("251", preference=-10)]),
        ("251", [sound("251", preference=-10)]),
        (
            None,
            [sound("136", acodec="none"), sound("sb0", acodec="none", protocol="mhtml"), sound("1", protocol="f4m")],
        ),
        (None, []),
    ],
)
def test_the_best_format(best: str | None, formats: list[dict[str, Any]]) -> None:
    chosen = best_of(formats, Wanted())
    assert (chosen and chosen["format_id"]) == best


def test_a_format_that_could_not_be_decoded_is_not_taken_again() -> None:
    formats = [sound("140"), sound("251")]
    for excluded, best in (((), "251"), (("251",), "140"), (("251", "140"), None)):
        chosen = best_of(formats, Wanted(excluded=frozenset(excluded)))
        assert (chosen and chosen["format_id"]) == best


def test_of_a_stream_that_has_just_ended_only_whole_formats_are_taken() -> None:
    whole = sound("140", filesize=1000)
    live = sound("251", filesize=1000, is_from_start=True)
    without_size, segments = sound("249"), sound("139", protocol="http_dash_segments")
    hls = sound("233", **HLS)
    unnamed = sound("141", filesize=1000, protocol=None)
    formats = [whole, live, without_size, segments, hls, unnamed]
    assert candidates(formats, Wanted(is_post_live=True, seconds=30)) == [whole, segments, unnamed]
    assert candidates(formats, Wanted(is_post_live=True, seconds=7201)) == [whole, unnamed]
    assert candidates(formats, Wanted(is_post_live=True)) == []


def test_the_duration_of_a_track_is_found_in_its_estimated_size() -> None:
    assert track_seconds({"tbr": 130.0, "filesize_approx": int(10 * 130.0 * 1000 / 8)}) == pytest.approx(10, abs=0.01)
    for unknown in ({}, {"tbr": 130.0}, {"tbr": 0, "filesize_approx": 1}, {"tbr": 1, "filesize_approx": None}):
        assert track_seconds(unknown) is None


AAC = {"acodec": "mp4a.40.2"}


@pytest.mark.parametrize(
    ("wanted", "best", "formats"),
    [
        (Format.M4A, "140", [sound("140", **AAC), sound("251")]),
        (Format.OPUS, "251", [sound("251"), sound("140", **AAC)]),
        (Format.M4A, None, [sound("251")]),
        (Format.OPUS, None, [sound("140", **AAC), sound("380", acodec="ac-3")]),
        (Format.M4A, None, [sound("141", acodec="mp3"), sound("142", acodec="mp4a.69")]),
        (Format.M4A, "18", [sound("18", **MUXED), sound("251")]),
        (Format.M4A, "234", [sound("234", **HLS), sound("251")]),
        (Format.OPUS, None, [sound("234", **HLS)]),
        (Format.M4A, "140", [sound("258", **AAC, audio_channels=6), sound("140", **AAC), sound("140-drc", **AAC)]),
        # The dubbed track has the codec, the original has not: it is not taken.
        (Format.M4A, None, [sound("251", **ORIGINAL), sound("140", **AAC)]),
        (Format.OPUS, "250", [sound("250", **ORIGINAL), sound("251"), sound("140", **AAC, **ORIGINAL)]),
        (Format.OPUS, None, []),
    ],
)
def test_a_copied_format_takes_the_best_sound_of_its_codec(
    wanted: Format, best: str | None, formats: list[dict[str, Any]]
) -> None:
    chosen = best_of(formats, Wanted(format=wanted))
    assert (chosen and chosen["format_id"]) == best


def test_an_undecodable_original_is_not_replaced_by_a_dubbed_track_of_its_codec() -> None:
    formats = [sound("140", **AAC, **ORIGINAL), sound("139", **AAC)]
    assert candidates(formats, Wanted(format=Format.M4A, excluded=frozenset({"140"}))) == []


EN, DE, AT = {**ORIGINAL, "language": "en-US"}, {"language": "de-DE"}, {"language": "de-AT"}
EN_DESCRIPTION = {**DESCRIPTION, "language": "en-US-desc"}


@pytest.mark.parametrize(
    ("language", "format_", "best", "formats"),
    [
        ("de", Format.MP3, "249", [sound("251", **EN), sound("249", **DE)]),
        ("de-DE", Format.MP3, "251", [sound("251", **DE), sound("140", **EN, **AAC), sound("249", **DE)][::-1]),
        ("de-CH", Format.MP3, None, [sound("251", **EN), sound("249", **DE)]),
        ("de-CH", Format.MP3, "249", [sound("251", **EN), sound("249", language="de")]),
        # The original comes before a dubbed track of another country, then the alphabet decides.
        ("en", Format.MP3, "250", [sound("250", **EN), sound("251", language="en-AU")]),
        ("de", Format.MP3, "250", [sound("250", **AT), sound("251", **DE)]),
        ("en", Format.MP3, "249", [sound("249", **EN), sound("251", **EN_DESCRIPTION)]),
        ("en", Format.MP3, None, [sound("251", **EN_DESCRIPTION)]),
        # A track that does not name its language fits none.
        ("en", Format.MP3, None, [sound("251", **ORIGINAL), sound("140", language="")]),
        ("de", Format.M4A, "140", [sound("251", **DE), sound("140", **AAC, **DE), sound("141", **AAC, **EN)]),
        ("de", Format.M4A, None, [sound("251", **DE), sound("140", **AAC, **EN)]),
    ],
)
def test_a_language_takes_the_best_sound_of_its_audio_track_alone(
    language: str, format_: Format, best: str | None, formats: list[dict[str, Any]]
) -> None:
    chosen = best_of(formats, Wanted(language=Language(language), format=format_))
    assert (chosen and chosen["format_id"]) == best
