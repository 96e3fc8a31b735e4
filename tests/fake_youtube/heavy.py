"""What makes an answer as heavy as YouTube's: many formats, languages, captions, and a page of 1.3 MB.

All of it is deterministic and built once. The fill of the page is compressed once, too: otherwise the fake would spend
more time on packing than the client on reading.
"""

import functools
import json
import random
import zlib
from typing import Any, Final

from .behaviour import Track
from .media import IN_M4A

CAPTION_LANGUAGES: Final = 156
_FLAG_BYTES: Final = 180_000
_INITIAL_DATA_BYTES: Final = 450_000
_SCRIPT_BYTES: Final = 640_000
_DUBS: Final = (
    ("de-DE", "German"),
    ("es-US", "Spanish (US)"),
    ("fr-FR", "French"),
    ("hi", "Hindi"),
    ("id", "Indonesian"),
    ("it", "Italian"),
    ("ja", "Japanese"),
    ("ko", "Korean"),
    ("nl-NL", "Dutch"),
    ("pl", "Polish"),
    ("pt-BR", "Portuguese (Brazil)"),
    ("ro", "Romanian"),
    ("uk", "Ukrainian"),
)
_FEW_DUBS: Final = 4
# itag, height, frames a second: what YouTube makes of a video in 2160p.
_LADDER: Final = (
    (160, 144, 25),
    (133, 240, 25),
    (134, 360, 25),
    (135, 480, 25),
    (136, 720, 25),
    (137, 1080, 25),
    (298, 720, 50),
    (299, 1080, 50),
    (278, 144, 25),
    (242, 240, 25),
    (243, 360, 25),
    (244, 480, 25),
    (247, 720, 25),
    (248, 1080, 25),
    (271, 1440, 25),
    (313, 2160, 25),
    (302, 720, 50),
    (303, 1080, 50),
    (308, 1440, 50),
    (315, 2160, 50),
    (394, 144, 25),
    (395, 240, 25),
    (396, 360, 25),
    (397, 480, 25),
    (398, 720, 50),
    (399, 1080, 50),
    (400, 1440, 50),
    (401, 2160, 50),
    (330, 144, 50),
    (331, 240, 50),
    (332, 360, 50),
    (333, 480, 50),
    (334, 720, 50),
    (335, 1080, 50),
)
_H264: Final = range(100, 200)
_H264_FAST: Final = range(298, 300)
_AV1: Final = range(394, 402)


def pictures() -> list[tuple[int, str, int, int]]:
    """Return itag, MIME type, height and frames a second of every video format."""
    return [(itag, _picture_mime(itag), height, fps) for itag, height, fps in _LADDER]


def _picture_mime(itag: int) -> str:
    if itag in _H264 or itag in _H264_FAST:
        return 'video/mp4; codecs="avc1.4d401f"'
    if itag in _AV1:
        return 'video/mp4; codecs="av01.0.08M.08"'
    return 'video/webm; codecs="vp9"'


def expanded_tracks(track: Track, number: int) -> tuple[Track, ...]:
    """Return the track in all of YouTube's qualities and codecs, volume-levelled, and dubbed in 4 or 13 languages.

    Every fourth video has 13 languages, which makes 174 formats; the others have 84. All qualities and languages of a
    codec share one body, so that a heavy answer needs no more than two files.
    """
    m4a = IN_M4A.get(track.media)
    if m4a is None:
        return (track,)
    qualities = (
        (249, track.media, "LOW", 50),
        (250, track.media, "LOW", 70),
        (251, track.media, "MEDIUM", 130),
        (139, m4a, "LOW", 49),
        (140, m4a, "MEDIUM", 130),
    )
    languages = [("en-US.4", "English (US) original", "original")]
    dubs = _DUBS if number % 4 == 3 else _DUBS[:_FEW_DUBS]
    languages += [(f"{code}.10", name, "dubbed-auto") for code, name in dubs]
    return tuple(
        Track(
            itag=itag,
            media=media,
            language=language,
            name=name,
            default=content == "original",
            content=content,
            levelled=levelled,
            quality=quality,
            kbps=kbps,
        )
        for language, name, content in languages
        for levelled in (False, True)
        for itag, media, quality, kbps in qualities
    )


@functools.cache
def _words() -> tuple[str, ...]:
    chance = random.Random(11)
    return tuple("".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randrange(4, 12))) for _ in range(4000))


@functools.cache
def flags() -> dict[str, Any]:
    """Return the experiment flags of `ytcfg`: some thousand names."""
    chance = random.Random(12)
    made: dict[str, Any] = {}
    size = 0
    while size < _FLAG_BYTES:
        name = "_".join(chance.choices(_words(), k=4))
        made[name] = chance.choice((True, False, chance.randrange(10_000), chance.choice(_words())))
        size += len(name) + 10
    return made


@functools.cache
def related() -> list[dict[str, Any]]:
    """Return the column of related videos in the page's initial data."""
    chance = random.Random(13)
    made: list[dict[str, Any]] = []
    size = 0
    while size < _INITIAL_DATA_BYTES:
        title = " ".join(chance.choices(_words(), k=8))
        tracking = "".join(chance.choices(_words(), k=30))
        endpoint = {
            "clickTrackingParams": tracking,
            "commandMetadata": {"webCommandMetadata": {"url": f"/watch?v={tracking[:11]}", "rootVe": 3832}},
            "watchEndpoint": {"videoId": tracking[:11], "nofollow": True},
        }
        renderer = {
            "videoId": tracking[:11],
            "title": {"accessibility": {"accessibilityData": {"label": title}}, "simpleText": title},
            "navigationEndpoint": endpoint,
            "menu": {"menuRenderer": {"items": [endpoint, endpoint], "trackingParams": tracking}},
        }
        made.append({"compactVideoRenderer": renderer})
        size += len(json.dumps(renderer))
    return made


@functools.cache
def captions() -> dict[str, Any]:
    """Return the captions that a web client gets: one automatic track and 156 languages to translate to."""
    languages = [
        {"languageCode": f"{_words()[i][:2]}{i:03d}", "languageName": {"simpleText": _words()[i]}}
        for i in range(CAPTION_LANGUAGES)
    ]
    track = {
        "baseUrl": "https://www.youtube.com/api/timedtext?" + "v=x&caps=asr&opi=112496729&exp=xpe" * 8,
        "name": {"simpleText": "English (auto-generated)"},
        "vssId": "a.en",
        "languageCode": "en",
        "kind": "asr",
        "isTranslatable": True,
    }
    return {"playerCaptionsTracklistRenderer": {"captionTracks": [track], "translationLanguages": languages}}


@functools.cache
def _fill() -> tuple[bytes, bytes]:
    """Return style sheets and scripts of the page, and the same as a block of a deflate stream."""
    chance = random.Random(14)
    pieces: list[str] = []
    size = 0
    while size < _SCRIPT_BYTES:
        one, other, third = chance.choices(_words(), k=3)
        color = chance.randrange(2**24)
        pieces.append(f".{one}-{other}{{margin:{chance.randrange(99)}px;color:#{color:06x}}}.{third} a{{}}")
        size += len(pieces[-1])
    plain = f"<style nonce=fake>{''.join(pieces)}</style>".encode("ascii")
    packer = zlib.compressobj(6, wbits=-zlib.MAX_WBITS)
    return plain, packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH)


def build() -> None:
    """Build now what is built once."""
    for part in (flags, related, captions, _fill):
        part()


def packed_page(head: bytes, tail: bytes) -> bytes:
    """Return head, fill and tail as one gzip body."""
    plain, block = _fill()
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    front = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    back = packer.compress(tail) + packer.flush(zlib.Z_FINISH)
    checksum = zlib.crc32(tail, zlib.crc32(plain, zlib.crc32(head)))
    size = len(head) + len(plain) + len(tail)
    trailer = checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + front + block + back + trailer
