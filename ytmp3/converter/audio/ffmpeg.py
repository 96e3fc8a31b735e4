"""How ffmpeg is called, what a spool holds, and how its progress is read. Pure: nothing is started here.

The rule: no file name ever reaches ffmpeg. Input and output are descriptors, the demuxer is the one we found in the
first bytes, and protocols, formats and codecs are closed lists, so that a playlist in disguise finds nothing to open.
"""

from typing import Final

from ytmp3.core.recipe import Format, Quality, Recipe

STREAM: Final = "pipe:0"
FILE: Final = "fd:"
"""A seekable input on descriptor 0."""

OUTPUT_DESCRIPTOR: Final = 3
"""Seekable, so that the Xing header with the true length can be written at the end."""

SNIFF_BYTES: Final = 4096
"""Enough to know every container of the list; YouTube's `moov` begins within the first 100 bytes."""

_AUDIO_CODECS: Final = "aac,opus,vorbis,mp3,mp3float,flac,alac,pcm_s16le,pcm_s24le,pcm_f32le"

_QUIET: Final = ("-hide_banner", "-nostdin", "-v", "error")
# Which demuxers read each kind, by ffmpeg's own names; the whitelist must hold the name as `-f` resolves it.
_MATROSKA: Final = "matroska"
_MOV: Final = "mov"
_MAGIC: Final = (
    (_MATROSKA, 0, b"\x1aE\xdf\xa3"),
    (_MOV, 4, b"ftyp"),
    (_MOV, 4, b"styp"),
    (_MOV, 4, b"moov"),
    ("ogg", 0, b"OggS"),
    ("flac", 0, b"fLaC"),
    ("wav", 0, b"RIFF"),
    ("mp3", 0, b"ID3"),
)
_MUXERS: Final = {Format.MP3: "mp3"}
_DEMUXERS_OF_COPIES: Final = {Format.MP3: "mp3"}
_TRANSPORT_STREAM_PACKET: Final = 188


def demuxer_of(head: bytes) -> str | None:
    """Return ffmpeg's demuxer for a file that begins like this, or None for what we do not read."""
    for demuxer, offset, magic in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return demuxer
    if len(head) > _TRANSPORT_STREAM_PACKET and head[0] == head[_TRANSPORT_STREAM_PACKET] == ord("G"):
        return "mpegts"
    if len(head) < 2 or head[0] != 0xFF:
        return None
    # Both begin with eleven or twelve set bits; the layer tells MPEG audio (III: 01) from ADTS (always 00).
    return {0xE2: "mp3", 0xF0: "aac"}.get(head[1] & (0xE6 if head[1] & 0x06 else 0xF6))


def demuxer_of_copies(recipe: Recipe) -> str:
    """Return the demuxer of the sources whose frames may be copied for this recipe."""
    return _DEMUXERS_OF_COPIES[recipe.format]


def is_streamable(demuxer: str, head: bytes) -> bool:
    """Whether a file that begins like this can be decoded while it grows: not with its index at the end."""
    return demuxer != _MOV or _index_comes_first(head)


def _index_comes_first(head: bytes) -> bool:
    position = 0
    while position + 8 <= len(head):
        size, kind = int.from_bytes(head[position : position + 4]), head[position + 4 : position + 8]
        if kind in {b"moov", b"moof", b"sidx"}:
            return True
        # Sizes 0 (to the end) and 1 (64 bits follow) belong to `mdat`.
        if kind == b"mdat" or size < 8:
            return False
        position += size
    return False


def encode_arguments(ffmpeg: str, *, source: str, demuxer: str, recipe: Recipe, is_copied: bool = False) -> list[str]:
    """Return the command that makes the recipe's track from descriptor 0 (`source`: STREAM or FILE) on descriptor 3.

    `is_copied` copies the frames of a source that has the recipe's codec.
    Progress comes on descriptor 1, error messages on 2.
    """
    codec = ["-c:a", "copy"] if is_copied else _codec(recipe)
    return [
        *(ffmpeg, *_QUIET, "-nostats", "-stats_period", "0.25", "-progress", "pipe:1"),
        *("-protocol_whitelist", "fd,pipe", "-format_whitelist", _whitelist(demuxer)),
        *("-codec_whitelist", _AUDIO_CODECS),
        *(["-fd", "0"] if source == FILE else []),
        *("-f", demuxer, "-i", source),
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"),
        *(*codec, "-id3v2_version", "0", "-write_id3v1", "0"),
        *("-f", _MUXERS[recipe.format], "-fd", str(OUTPUT_DESCRIPTOR), "fd:"),
    ]


def encoded_seconds(line: bytes) -> float | None:
    """Return how much sound is encoded, if this line of `-progress` says so."""
    name, _, value = line.partition(b"=")
    if name != b"out_time_us" or not value.strip().isdigit():
        return None
    return int(value) / 1e6


def _codec(recipe: Recipe) -> list[str]:
    match recipe.format:
        case Format.MP3:
            return ["-c:a", "libmp3lame", *_rate(recipe.quality)]


def _rate(quality: Quality) -> list[str]:
    if quality.startswith("V"):
        return ["-q:a", quality[1:]]
    return ["-b:a", quality]


def _whitelist(demuxer: str) -> str:
    # ffmpeg compares with the demuxer's whole name, which for these two is a list itself.
    return {_MATROSKA: "matroska,webm", _MOV: "mov,mp4,m4a,3gp,3g2,mj2"}.get(demuxer, demuxer)
