"""What YouTube offers for a video: found in yt-dlp's formats, estimated, and told to clients."""

from typing import Any

from ytmp3.converter.youtube.describing import description_of
from ytmp3.core.description import (
    MAX_LANGUAGES,
    AudioTrack,
    CopiedSound,
    ProbeFailed,
    ProbeRefused,
    estimated_bytes,
    kbps_of,
)
from ytmp3.core.ids import VideoId
from ytmp3.core.language import Language
from ytmp3.core.recipe import Format, Quality
from ytmp3.http.probe_view import probe_view

ORIGINAL = {"language": "en-US", "language_preference": 10}


def sound(format_id: str, acodec: str, kbps: float | None, size: int | None, **other: Any) -> dict[str, Any]:
    usual = {"protocol": "https", "vcodec": "none", "language": None, "language_preference": -1}
    return usual | {"format_id": format_id, "acodec": acodec, "abr": kbps, "filesize": size} | other


def video(*formats: dict[str, Any]) -> dict[str, Any]:
    return {"title": "A video", "duration": 100, "formats": list(formats)}


def test_languages_and_copies_are_those_that_a_conversion_would_take() -> None:
    found = description_of(
        video(
            sound("251-1", "opus", 120.0, 1_500_000, language="de-DE"),
            sound("251-2", "opus", 120.0, 1_500_001, language="iw"),
            sound("139", "mp4a.40.5", 48.0, 600_000, **ORIGINAL),
            sound("140", "mp4a.40.2", 129.51, 1_618_000, **ORIGINAL),
            sound("258", "mp4a.40.2", 388.0, 4_850_000, **ORIGINAL, audio_channels=6),
            sound("251-3", "opus", 160.0, 2_000_000, language="en-US-desc", language_preference=-10),
            sound("136", "none", None, 9_000_000),
        )
    )
    aac = CopiedSound(format=Format.M4A, bitrate_kbps=129.5, size_bytes=1_618_000)
    assert found.original == AudioTrack(language=Language("en-US"), is_original=True, copies=(aac,))
    assert [(track.language, track.is_original) for track in found.languages] == [
        ("en-US", True),
        ("de-DE", False),
        ("he", False),
    ]
    view = probe_view(VideoId("dQw4w9WgXcQ"), found)
    assert [track.formats for track in view.languages] == [("mp3", "m4a"), ("mp3", "opus"), ("mp3", "opus")]
    sizes = {(each.format, each.quality): (each.bitrate_kbps, each.size_bytes) for each in view.formats}
    assert sizes.pop((Format.M4A, None)) == (129.5, 1_618_000)
    assert sizes[Format.MP3, Quality.K192] == (192, 2_400_000)
    assert sizes.keys() == {(Format.MP3, quality) for quality in Quality}


def test_a_video_with_one_track_names_no_language_and_odd_values_are_left_out() -> None:
    odd = sound("18", "mp4a.40.2", -1, 10**13, vcodec="avc1", language=5, tbr=True)
    with_picture = sound("22", "mp4a.40.2", None, 5_000_000, vcodec="avc1", tbr=700.0)
    for formats, copies in (
        ((odd,), (CopiedSound(format=Format.M4A, bitrate_kbps=None, size_bytes=None),)),
        ((with_picture,), (CopiedSound(format=Format.M4A, bitrate_kbps=700.0, size_bytes=None),)),
        ((), ()),
    ):
        found = description_of(video(*formats))
        assert (found.original.language, found.original.copies, found.languages) == (None, copies, ())
    assert description_of({}).metadata.title == "Untitled"


def test_the_number_of_languages_is_bounded() -> None:
    tags = [f"{first}{second}" for first in "abcdefgh" for second in "abcdefghjk"]
    found = description_of(video(*(sound(tag, "opus", 1.0, 1, language=tag) for tag in tags)))
    assert len(found.languages) == MAX_LANGUAGES < len(tags)


def test_sizes_are_estimated_where_rate_and_duration_are_known() -> None:
    assert estimated_bytes(128, 10.0) == 160_000
    assert estimated_bytes(None, 10.0) is estimated_bytes(128, None) is None
    assert [kbps_of(quality) for quality in (Quality.K96, Quality.V0)] == [96, 245]


def test_an_error_carries_the_code_of_a_job_that_fails_for_the_same_reason() -> None:
    refused, failed = (
        ProbeRefused("Why.", reason_code="private"),
        ProbeFailed("Why.", reason_code="bot_check", retry_after_seconds=5),
    )
    assert (refused.reason_code, refused.status, refused.field) == ("private", 422, "url")
    assert (failed.reason_code, failed.status, failed.retry_after_seconds) == ("bot_check", 503, 5)
