"""Several audio tracks, manifests, recorded streams. `media.TONES` tells the tracks apart."""

from typing import Final

from tests.fake_youtube.behaviour import Behaviour, Manifest, Media, Offer, Track
from tests.fake_youtube.kinds import Kind

_ORIGINAL_OPUS: Final = Track(
    itag=251,
    media=Media.ORIGINAL_OPUS,
    language="en-US.4",
    name="English (US) original",
    default=True,
    content="original",
)
_ORIGINAL_AAC: Final = Track(
    itag=140,
    media=Media.ORIGINAL_AAC,
    language="en-US.4",
    name="English (US) original",
    default=True,
    content="original",
)
_ORIGINAL_LOW: Final = Track(
    itag=249,
    media=Media.ORIGINAL_OPUS,
    language="en-US.4",
    name="English (US) original",
    default=True,
    content="original",
    quality="LOW",
    kbps=50,
)
_DUBBED_OPUS: Final = Track(
    itag=251, media=Media.DUBBED_OPUS, language="de-DE.10", name="German", content="dubbed-auto"
)
_DUBBED_AAC: Final = Track(itag=140, media=Media.DUBBED_AAC, language="de-DE.10", name="German", content="dubbed-auto")
_DESCRIPTION: Final = Track(
    itag=258,
    media=Media.DESCRIPTION_SURROUND,
    language="en-US.2",
    name="English (US) descriptive",
    content="descriptive",
    channels=6,
    quality="HIGH",
    kbps=387,
)
_DESCRIPTION_OPUS: Final = Track(
    itag=251, media=Media.DESCRIPTION_OPUS, language="en-US.2", name="English (US) descriptive", content="descriptive"
)
_STEREO: Final = Track(itag=251, media=Media.ORIGINAL_OPUS)
_STEREO_AAC: Final = Track(itag=140, media=Media.ORIGINAL_AAC)
_LEVELLED: Final = Track(itag=251, media=Media.LEVELLED_OPUS, levelled=True)


def _tracks(summary: str, *tracks: Track) -> Behaviour:
    return Behaviour(summary=summary, expected="done", media=tracks[0].media, tracks=tracks)


SOUNDS: Final[dict[Kind, Behaviour]] = {
    Kind.DUBBED: _tracks("original as AAC, dubbed track as AAC and Opus", _ORIGINAL_AAC, _DUBBED_AAC, _DUBBED_OPUS),
    Kind.DUBBED_BETTER: _tracks("original in low quality, dubbed track in medium", _ORIGINAL_LOW, _DUBBED_OPUS),
    Kind.DUBBED_ALIKE: _tracks(
        "original and dubbed track, both as Opus and AAC",
        _DUBBED_OPUS,
        _DUBBED_AAC,
        _ORIGINAL_OPUS,
        _ORIGINAL_AAC,
    ),
    Kind.DESCRIPTIVE: _tracks(
        "original in stereo, audio description in stereo and 5.1", _ORIGINAL_OPUS, _DESCRIPTION, _DESCRIPTION_OPUS
    ),
    Kind.LEVELLED: _tracks("the same sound plain and volume-levelled (DRC)", _STEREO, _LEVELLED),
    Kind.SURROUND: _tracks(
        "stereo Opus beside AAC 5.1",
        _STEREO,
        Track(itag=258, media=Media.SURROUND_AAC, channels=6, quality="MEDIUM", kbps=387),
    ),
    Kind.AC3: _tracks(
        "stereo Opus beside AC-3 5.1", _STEREO, Track(itag=380, media=Media.SURROUND_AC3, channels=6, kbps=384)
    ),
    Kind.EAC3: _tracks(
        "stereo Opus beside E-AC-3 5.1", _STEREO, Track(itag=328, media=Media.SURROUND_EAC3, channels=6, kbps=384)
    ),
    Kind.AMBISONIC: _tracks(
        "stereo Opus beside ambisonic Opus with 4 channels",
        _STEREO,
        Track(itag=338, media=Media.AMBISONIC, channels=4, spatial=True, kbps=480),
    ),
    Kind.TRACK_SHORTER: Behaviour(
        summary="video announced with 30 s, track announced with 10 s, media of 10 s",
        expected="done",
        media=Media.TEN,
        seconds=30,
        track_seconds=10,
    ),
    Kind.MUSIC: Behaviour(
        summary="a song of YouTube Music, on a channel called NAME - Topic, as Opus and AAC",
        expected="done",
        media=Media.ORIGINAL_OPUS,
        tracks=(_ORIGINAL_OPUS, _ORIGINAL_AAC),
        is_song=True,
    ),
    Kind.CHAPTERS: Behaviour(
        summary="three chapters, as Opus and AAC",
        expected="done",
        media=Media.ORIGINAL_OPUS,
        tracks=(_ORIGINAL_OPUS, _ORIGINAL_AAC),
        chapters=((0, "Intro"), (1_000, "Strophe für Zwei"), (2_500, "Ende \U0001f3b6")),
    ),
    Kind.HLS: Behaviour(
        summary="only HLS: audio groups 233 and 234 as MPEG-TS",
        expected="done",
        media=Media.TRANSPORT_CLIP,
        offer=Offer.MANIFEST_ONLY,
        manifest=Manifest.HLS,
    ),
    Kind.HLS_PACKED: Behaviour(
        summary="only HLS: audio groups as packed AAC with ID3 timestamps",
        expected="done",
        media=Media.ADTS,
        offer=Offer.MANIFEST_ONLY,
        manifest=Manifest.HLS_PACKED,
    ),
    Kind.HLS_CHALLENGE: Behaviour(
        summary="only HLS, with an n challenge in the manifest's address",
        expected="done",
        media=Media.TRANSPORT_CLIP,
        offer=Offer.MANIFEST_ONLY,
        manifest=Manifest.HLS_CHALLENGE,
    ),
    Kind.MUXED_AND_HLS: Behaviour(
        summary="format 18 beside HLS audio",
        expected="done",
        media=Media.MUXED,
        seconds=4,
        offer=Offer.MUXED_AND_MANIFEST,
        manifest=Manifest.HLS,
    ),
    Kind.DASH: Behaviour(
        summary="only a DASH manifest: format 140 in segments",
        expected="done",
        media=Media.M4A_CLIP,
        offer=Offer.MANIFEST_ONLY,
        manifest=Manifest.DASH,
    ),
    Kind.WAS_LIVE: Behaviour(summary="a recorded stream, 30 s", expected="done", media=Media.CLIP, stream="was"),
    Kind.POST_LIVE: Behaviour(
        summary="a stream that has just ended; whole formats are there",
        expected="done",
        media=Media.CLIP,
        stream="post",
    ),
    Kind.POST_LIVE_SEGMENTS: Behaviour(
        summary="a stream that has just ended; only DASH segments are there",
        expected="done",
        media=Media.M4A_CLIP,
        offer=Offer.MANIFEST_ONLY,
        manifest=Manifest.DASH,
        stream="post",
    ),
}
