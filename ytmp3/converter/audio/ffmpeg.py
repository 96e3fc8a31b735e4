"""Makes ffmpeg's command lines, detects the container of a spool, and parses ffmpeg's progress. Pure.

The rule: ffmpeg never gets a file name. Input and output are descriptors. The demuxer is chosen by the first bytes of
the input, and protocols, formats and codecs are restricted to lists. So a playlist that is disguised as media cannot
make ffmpeg open a file or a URL.
"""

import math
import re
from typing import Final

from ytmp3.converter.audio.samples import SampleForm
from ytmp3.core.cut import Cut
from ytmp3.core.loudness import Measured
from ytmp3.core.recipe import Format, Quality, Recipe

STREAM: Final = "pipe:0"
"""ffmpeg's input is a pipe on descriptor 0."""

FILE: Final = "fd:"
"""ffmpeg's input is a seekable file on descriptor 0."""

OUTPUT_DESCRIPTOR: Final = 3
"""The descriptor that ffmpeg writes the track to. It must be seekable, because ffmpeg writes the Xing header with the
length after all frames, and the size of the sound in an MP4 too."""

SNIFF_BYTES: Final = 4096
"""Number of bytes at the beginning of a spool by which the container is detected. YouTube's `moov` box begins within
the first 100 bytes."""

MEMORY_BYTES: Final = 2 * 2**30
"""Address space that ffmpeg may use, in bytes (RLIMIT_AS). A song needs 0.4 GiB, of which 30 MB are in memory; a
hostile file could make ffmpeg allocate more."""

_AUDIO_CODECS: Final = "aac,opus,vorbis,mp3,mp3float,flac,alac,pcm_s16le,pcm_s24le,pcm_f32le"

_QUIET: Final = ("-hide_banner", "-nostdin", "-v")
_MEASURING: Final = "ebur128=peak=true:framelog=quiet"
"""The filter that measures loudness (EBU R 128) and true peak, and does not change the sound. It logs a summary at the
end, at the level of information."""
_SUMMARY: Final = re.compile(
    r"Integrated loudness:\s+I:\s+(-?(?:[0-9.]+|inf|nan)) LUFS.*?True peak:\s+Peak:\s+(-?(?:[0-9.]+|inf|nan)) dBFS",
    re.DOTALL,
)
_SCALES: Final = {Quality.K96: 0.95, Quality.K128: 0.95, Quality.K160: 0.95, Quality.K192: 0.97}
"""LAME multiplies the samples by this before it encodes them at these bit rates, so that less of the sound is clipped
(`abr_switch_map` in its presets.c). Without it, the loudness of an MP3 would be reported 0.4 dB too high."""
_ERRORS: Final = re.compile(r"^.*\[(?:panic|fatal|error)\].*$", re.MULTILINE)
# ffmpeg's demuxers, each with the position and the value of bytes by which its files are recognised.
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
)
_OUTPUTS: Final = {
    # Flushed after each packet, so that listeners hear the sound at once.
    Format.MP3: ("-id3v2_version", "0", "-write_id3v1", "0", "-flush_packets", "1", "-f", "mp3"),
    # `ipod` accepts AAC and little else, `opus` nothing but Opus, so a source with another codec is an error.
    Format.M4A: ("-fflags", "+bitexact", "-f", "ipod"),
    Format.OPUS: ("-fflags", "+bitexact", "-f", "opus"),
}
"""Options of the muxers. None writes a tag, or anything that differs between two runs."""
_COUNTED: Final = "asetpts=N/SR/TB"
"""The filter that replaces each timestamp by the number of samples before it."""
_LARGE_FRAMES: Final = "asetnsamples=n=16384:p=0"
"""The filter that makes frames of a third of a second, of the same samples. ffmpeg's threads pass frames to each other,
so with those of 20 ms that Opus has, a decoder takes a quarter more CPU time."""
_TRANSPORT_STREAM_PACKET: Final = 188


def _end_of_id3(head: bytes) -> int:
    """Return where the ID3v2 tag at the start ends: ten bytes of header, and a size in four bytes of seven bits."""
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def demuxer_of(head: bytes) -> str | None:
    """Return ffmpeg's demuxer for a file that begins with `head`, or None if its container is not accepted."""
    if head.startswith(b"ID3"):
        # MP3, or a segment of HLS: AAC behind a tag with its time (RFC 8216, section 3.4).
        return "aac" if demuxer_of(head[_end_of_id3(head) :]) == "aac" else "mp3"
    for demuxer, offset, magic in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return demuxer
    if len(head) > _TRANSPORT_STREAM_PACKET and head[0] == head[_TRANSPORT_STREAM_PACKET] == ord("G"):
        return "mpegts"
    if len(head) < 2 or head[0] != 0xFF:
        return None
    # Both MPEG audio and ADTS begin with eleven or twelve set bits. The layer field distinguishes them: 01 for layer
    # III, 00 for ADTS.
    return {0xE2: "mp3", 0xF0: "aac"}.get(head[1] & (0xE6 if head[1] & 0x06 else 0xF6))


def may_be_as_wanted(demuxer: str, recipe: Recipe) -> bool:
    """Return whether the frames of a source may already be those of an MP3 of this recipe."""
    return recipe.format is Format.MP3 and demuxer == "mp3" and recipe.cut.is_whole and not recipe.is_measured


def is_streamable(demuxer: str, head: bytes) -> bool:
    """Return whether a file that begins with `head` can be decoded while it grows.

    An MP4 with its index at the end cannot.
    """
    return demuxer != _MOV or _index_comes_first(head)


def _index_comes_first(head: bytes) -> bool:
    position = 0
    while position + 8 <= len(head):
        size, kind = int.from_bytes(head[position : position + 4]), head[position + 4 : position + 8]
        if kind in {b"moov", b"moof", b"sidx"}:
            return True
        # Only an `mdat` box has a size of 0 (until the end of the file) or 1 (a 64-bit size follows).
        if kind == b"mdat" or size < 8:
            return False
        position += size
    return False


def encode_arguments(ffmpeg: str, *, source: str, demuxer: str, recipe: Recipe, is_copied: bool = False) -> list[str]:
    """Return the command that reads descriptor 0 (`source`: STREAM or FILE) and writes the recipe's track to 3.

    `is_copied` copies the frames of an MP3 that is as wanted. A recipe that is copied never encodes. Progress goes to
    descriptor 1, errors to 2.
    """
    measuring = [_MEASURING] if recipe.is_measured else []
    if is_copied or recipe.quality is None:
        # Only a second output, which goes nowhere, decodes the sound of a copy.
        sound = ["-c:a", "copy"]
        more = ["-map", "0:a:0", "-af", *measuring, "-f", "null", "-"] if measuring else []
    else:
        sound = [*_filters(recipe), "-c:a", "libmp3lame", *_rate(recipe.quality)]
        more = []
    return [
        *_front(ffmpeg, is_measuring=bool(measuring)),
        *_input(source, demuxer),
        *(*sound, *_OUTPUTS[recipe.format], "-fd", str(OUTPUT_DESCRIPTOR), "fd:"),
        *more,
    ]


def decode_arguments(ffmpeg: str, *, source: str, demuxer: str, recipe: Recipe) -> list[str]:
    """Return the command that writes the samples that an encoder of this recipe would get, as WAV, to a pipe on 3.

    They are 32-bit floating point numbers, which is what decoders make and LAME takes. Descriptors are used as by
    `encode_arguments`.
    """
    return [
        *_front(ffmpeg, is_measuring=recipe.is_measured),
        *_input(source, demuxer),
        *(*_filters(recipe, _LARGE_FRAMES), "-c:a", "pcm_f32le"),
        *("-fflags", "+bitexact", "-f", "wav", f"pipe:{OUTPUT_DESCRIPTOR}"),
    ]


def segment_arguments(ffmpeg: str, *, source: str, form: SampleForm, quality: Quality, is_first: bool) -> list[str]:
    """Return the command that encodes the samples of a segment. Only the output of the first one has a Xing frame."""
    layout = "mono" if form.channels == 1 else "stereo"
    return [
        *_front(ffmpeg, is_measuring=False),
        *_input(source, "f32le", "-ar", str(form.sample_rate), "-ch_layout", layout),
        *("-c:a", "libmp3lame", *_rate(quality), *_OUTPUTS[Format.MP3], "-write_xing", str(int(is_first))),
        *("-fd", str(OUTPUT_DESCRIPTOR), "fd:"),
    ]


def _front(ffmpeg: str, *, is_measuring: bool) -> list[str]:
    level = "level+info" if is_measuring else "error"
    return [ffmpeg, *_QUIET, level, "-nostats", "-stats_period", "0.25", "-progress", "pipe:1"]


def _input(source: str, demuxer: str, *form: str) -> list[str]:
    """Return the options that open descriptor 0, and that choose its first sound and nothing else."""
    return [
        *("-protocol_whitelist", "fd,pipe", "-format_whitelist", _whitelist(demuxer)),
        *("-codec_whitelist", _AUDIO_CODECS),
        *(["-fd", "0"] if source == FILE else []),
        *("-f", demuxer, *form, "-i", source),
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"),
    ]


def _filters(recipe: Recipe, *more: str) -> list[str]:
    filters = [
        *([] if recipe.cut.is_whole else [_cutting(recipe.cut)]),
        *([_MEASURING] if recipe.is_measured else []),
        *more,
    ]
    return ["-af", ",".join(filters)] if filters else []


def encoded_seconds(line: bytes) -> float | None:
    """Parse a line of ffmpeg's `-progress` output. Returns the encoded seconds, or None for other lines."""
    name, _, value = line.partition(b"=")
    if name != b"out_time_us" or not value.strip().isdigit():
        return None
    return int(value) / 1e6


def _cutting(cut: Cut) -> str:
    """Return the filters that leave only a part of the sound.

    Positions are counted in samples from the first one, so that a gap in the timestamps of a source moves nothing.
    """
    bounds = [f"start={cut.start_ms}ms", *([] if cut.end_ms is None else [f"end={cut.end_ms}ms"])]
    return f"{_COUNTED},atrim={':'.join(bounds)},{_COUNTED}"


def measured_in(log: str) -> Measured | None:
    """Return the loudness in the last summary of a log; None if there is none.

    ffmpeg logs the metadata of its input before the first sound, so a hostile file cannot forge the last summary.
    """
    found = _SUMMARY.search(log, max(0, log.rfind("Integrated loudness:")))
    return None if found is None else Measured(lufs=float(found[1]), peak_dbtp=float(found[2]))


def gain_of_encoder(recipe: Recipe) -> float:
    """Return by how much the encoder changes the volume, in dB."""
    return 0.0 if recipe.quality is None else 20 * math.log10(_SCALES.get(recipe.quality, 1.0))


def errors_in(log: str) -> str:
    """Return only the errors of a log with levels, and a log without levels as it is."""
    return "\n".join(_ERRORS.findall(log)) or log


def _rate(quality: Quality) -> list[str]:
    if quality.startswith("V"):
        return ["-q:a", quality[1:]]
    return ["-b:a", quality]


def _whitelist(demuxer: str) -> str:
    # ffmpeg compares the whitelist with the demuxer's whole name, which for these two is itself a list.
    return {_MATROSKA: "matroska,webm", _MOV: "mov,mp4,m4a,3gp,3g2,mj2"}.get(demuxer, demuxer)
