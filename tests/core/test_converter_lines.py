"""Reading the output of child processes, and how ffmpeg is called: pure functions of the converter."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.converter.audio.ffmpeg import (
    FILE,
    STREAM,
    demuxer_of,
    encode_arguments,
    encoded_seconds,
    errors_in,
    is_streamable,
    may_be_as_wanted,
    measured_in,
)
from ytmp3.converter.sandbox.pipes import TAIL_BYTES, Lines, Tail
from ytmp3.converter.youtube.events import decode_event
from ytmp3.core.cut import Cut
from ytmp3.core.loudness import LoudnessMode, Measured
from ytmp3.core.recipe import DEFAULT_RECIPE, Format, Quality, Recipe, recipe_for


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.lists(st.integers(1, 30)))
def test_lines_are_the_same_in_whatever_chunks_they_arrive(lines: list[bytes], cuts: list[int]) -> None:
    found: list[bytes] = []
    reader = Lines(100, found.append)
    stream = b"".join(line + b"\n" for line in lines)
    for cut in cuts:
        reader.add(stream[:cut])
        stream = stream[cut:]
    reader.add(stream)
    assert found == lines


def test_a_line_of_ten_megabytes_is_dropped_and_the_next_is_read() -> None:
    found: list[bytes] = []
    reader = Lines(1000, found.append)
    for chunk in (b"first\n", *[b"x" * 65536] * 160, b"end of it\nsecond\n"):
        reader.add(chunk)
        assert len(reader._rest) <= 1000
    assert found == [b"first", b"second"]


@given(st.lists(st.binary(max_size=200), max_size=30))
def test_a_tail_is_the_end_of_its_stream(chunks: list[bytes]) -> None:
    tail = Tail()
    for chunk in chunks:
        tail.add(chunk)
    assert tail.text() == b"".join(chunks).decode("utf-8", "replace")


def test_the_tail_of_a_flood_is_bounded() -> None:
    tail = Tail()
    for _ in range(1000):
        tail.add(b"\xff\x00\x1b" * 20_000)
        assert len(tail._kept) <= 2 * TAIL_BYTES
    tail.add(b"the end")
    assert tail.text().endswith("the end")


@given(st.binary())
def test_a_line_that_is_not_an_event_raises_one_of_two_errors(line: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_event(line)


@given(st.binary(max_size=100))
def test_any_head_of_a_file_and_any_progress_line_can_be_read(junk: bytes) -> None:
    encoded_seconds(junk)
    demuxer = demuxer_of(junk)
    assert is_streamable(demuxer or "mov", junk) in {True, False}


@pytest.mark.parametrize(
    ("head", "demuxer"),
    [
        (b"\x1aE\xdf\xa3\x01", "matroska"),
        (b"\0\0\0\x18ftypdash", "mov"),
        (b"OggS\0", "ogg"),
        (b"fLaC", "flac"),
        (b"ID3\x04", "mp3"),
        (b"ID3\x04\0\0\0\0\0\x02-- \xff\xf1", "mp3"),
        (b"ID3\x04\0\0\0\0\0\x02--\xff\xf1\x50\x80", "aac"),
        (b"ID3\x04\0\0\0\0\x01\0" + b"-" * 128 + b"\xff\xfb\x90\x64", "mp3"),
        (b"\xff\xfb\x90\x64", "mp3"),
        (b"\xff\xf3\x90\x64", "mp3"),
        (b"\xff\xf1\x50\x80", "aac"),
        (b"G" + bytes(187) + b"G", "mpegts"),
        (b"RIFF\0\0\0\0WAVE", "wav"),
        (b"#EXTM3U\n#EXT-X-VERSION:3", None),
        (b"ffconcat version 1.0", None),
        (b"<!DOCTYPE html>", None),
        (b"PK\x03\x04", None),
        (b"\x89PNG\r\n", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_the_demuxer_is_chosen_by_the_first_bytes(head: bytes, demuxer: str | None) -> None:
    assert demuxer_of(head) == demuxer


def box(kind: bytes, size: int) -> bytes:
    return (size.to_bytes(4) + kind).ljust(size, b"\0")


@pytest.mark.parametrize(
    ("boxes", "streamable"),
    [
        (box(b"ftyp", 24) + box(b"moov", 500), True),
        (box(b"ftyp", 24) + box(b"free", 8) + box(b"moov", 500), True),
        (box(b"ftyp", 24) + box(b"sidx", 60), True),
        (box(b"ftyp", 24) + box(b"free", 8) + box(b"mdat", 500), False),
        (box(b"ftyp", 24) + (1).to_bytes(4) + b"mdat" + bytes(100), False),
        (box(b"ftyp", 24) + (0).to_bytes(4) + b"junk" + bytes(100), False),
    ],
)
def test_an_mp4_with_its_index_at_the_end_is_not_streamable(boxes: bytes, streamable: bool) -> None:
    assert is_streamable("mov", boxes) is streamable
    assert is_streamable("matroska", boxes)


def test_the_encoder_command_is_fixed() -> None:
    command = encode_arguments("/ffmpeg", source=FILE, demuxer="matroska", recipe=DEFAULT_RECIPE)
    assert " ".join(command) == (
        "/ffmpeg -hide_banner -nostdin -v error -nostats -stats_period 0.25 -progress pipe:1"
        " -protocol_whitelist fd,pipe -format_whitelist matroska,webm"
        " -codec_whitelist aac,opus,vorbis,mp3,mp3float,flac,alac,pcm_s16le,pcm_s24le,pcm_f32le"
        " -fd 0 -f matroska -i fd: -map 0:a:0 -vn -sn -dn -map_metadata -1 -map_chapters -1"
        " -c:a libmp3lame -b:a 192k -id3v2_version 0 -write_id3v1 0 -flush_packets 1 -f mp3 -fd 3 fd:"
    )
    streamed = encode_arguments("/ffmpeg", source=STREAM, demuxer="mov", recipe=Recipe(quality=Quality.V2))
    assert " -f mov -i pipe:0 " in " ".join(streamed)
    assert " -q:a 2 " in " ".join(streamed)
    assert " -c:a copy " in " ".join(
        encode_arguments("/ffmpeg", source=FILE, demuxer="mp3", recipe=DEFAULT_RECIPE, is_copied=True)
    )
    counted = "asetpts=N/SR/TB"
    for cut, bounds in ((Cut(start_ms=1500, end_ms=9000), "start=1500ms:end=9000ms"), (Cut(start_ms=5), "start=5ms")):
        command = encode_arguments("/ffmpeg", source=FILE, demuxer="mov", recipe=Recipe(cut=cut))
        assert f" -map_chapters -1 -af {counted},atrim={bounds},{counted} -c:a libmp3lame " in " ".join(command)


SUMMARY = """\
[info] Input #0, matroska,webm, from 'fd:':
[info]     title : Integrated loudness: I: -1.0 LUFS True peak: Peak: 9.0 dBFS
[Parsed_ebur128_0 @ 0x7f77e0001c00] [info] Summary:

  Integrated loudness:
    I:         -22.3 LUFS
    Threshold: -32.0 LUFS

  True peak:
    Peak:      %s dBFS
[out#0/mp3 @ 0x55faa87d7d00] [info] video:0KiB audio:704KiB
"""


def test_the_loudness_is_that_of_the_last_summary() -> None:
    assert measured_in(SUMMARY % "-12.8") == Measured(lufs=-22.3, peak_dbtp=-12.8)
    assert measured_in(SUMMARY % "-inf") == Measured(lufs=-22.3, peak_dbtp=float("-inf"))
    of_no_numbers = measured_in(SUMMARY % "nan")
    assert of_no_numbers is not None
    assert of_no_numbers.is_silent
    assert measured_in("[error] Integrated loudness:") is None
    assert measured_in("") is None


def test_only_errors_are_read_from_a_log_with_levels() -> None:
    assert errors_in(f"{SUMMARY}[in#0 @ 0x1] [error] broken\n") == "[in#0 @ 0x1] [error] broken"
    assert errors_in("no level\n") == "no level\n"


def test_the_loudness_is_measured_in_the_run_that_makes_the_track() -> None:
    encoded = encode_arguments("/ffmpeg", source=FILE, demuxer="mov", recipe=Recipe(loudness=-14.0))
    assert "-v level+info" in " ".join(encoded)
    assert "-af ebur128=peak=true:framelog=quiet -c:a libmp3lame" in " ".join(encoded)
    cut = encode_arguments("/ffmpeg", source=FILE, demuxer="mov", recipe=Recipe(cut=Cut(end_ms=500), loudness=-14.0))
    assert ",asetpts=N/SR/TB,ebur128=" in " ".join(cut)
    copied = recipe_for(Format.OPUS, loudness=LoudnessMode.TAGS)
    command = " ".join(encode_arguments("/ffmpeg", source=FILE, demuxer="mov", recipe=copied))
    assert command.endswith("-fd 3 fd: -map 0:a:0 -af ebur128=peak=true:framelog=quiet -f null -")
    assert "-c:a copy" in command


def test_an_mp3_is_not_copied_if_only_a_part_of_it_is_wanted() -> None:
    assert may_be_as_wanted("mp3", DEFAULT_RECIPE)
    assert not may_be_as_wanted("mp3", Recipe(cut=Cut(start_ms=5)))
    assert not may_be_as_wanted("mp3", Recipe(loudness=LoudnessMode.TAGS))
    assert not may_be_as_wanted("aac", DEFAULT_RECIPE)
