"""The tags of tracks in all formats, read back by two independent readers, and the chapters by ffmpeg too."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import mutagen
from mutagen.mp4 import MP4
from tinytag import TinyTag

from tests.fake_youtube import BEHAVIOURS, Kind, Spawned, video_id
from tests.stand.pipeline import FFMPEG, running_pipeline
from ytmp3.core.job import Chapter
from ytmp3.core.recipe import Format
from ytmp3.core.tag_edits import TagEdits
from ytmp3.http.tag_edits import edit_of

SONG: Final = {"title": "Song 7", "artist": "First Artist, Second Artist", "album": "The Fäke Album", "year": "2011"}
CHAPTERS: Final = [(start / 1000, title) for start, title in BEHAVIOURS[Kind.CHAPTERS].chapters]
_NAMES: Final = {
    Format.MP3: {"title": "TIT2", "artist": "TPE1", "album": "TALB", "year": "TDRC"},
    Format.M4A: {"title": "\xa9nam", "artist": "\xa9ART", "album": "\xa9alb", "year": "\xa9day"},
    Format.OPUS: {"title": "title", "artist": "artist", "album": "album", "year": "date"},
}


def by_mutagen(path: Path) -> dict[str, str]:
    tags: Any = mutagen.File(path).tags
    names = _NAMES[Format(path.suffix[1:])]
    return {field: str(tags[name][0]) for field, name in names.items() if name in tags}


def by_tinytag(path: Path) -> dict[str, str]:
    tag = TinyTag.get(path)
    return {field: str(value) for field in SONG if (value := getattr(tag, field)) is not None}


def chapters_by_mutagen(path: Path) -> list[tuple[float, str]]:
    file: Any = mutagen.File(path)
    if isinstance(file, MP4):
        return [(each.start, each.title) for each in file.chapters or ()]
    if path.suffix == ".mp3":
        names = file.tags["CTOC:toc"].child_element_ids
        found = [file.tags[f"CHAP:{name}"] for name in names]
        return [(each.start_time / 1000, each.sub_frames["TIT2"].text[0]) for each in found]
    texts = [(file.tags[f"CHAPTER00{n}"][0], file.tags[f"CHAPTER00{n}NAME"][0]) for n in range(1, 4)]
    assert all(text.startswith("00:00:0") for text, _ in texts)
    return [(float(text[6:]), title) for text, title in texts]


def chapters_by_ffmpeg(path: Path) -> list[tuple[float, float, str]]:
    command = [FFMPEG, "-nostdin", "-hide_banner", "-i", str(path)]
    shown = subprocess.run(command, capture_output=True, check=False).stderr.decode()
    rows = re.findall(r"Chapter #0:\d+: start ([0-9.]+), end ([0-9.]+)\s+Metadata:\s+title +: (.*)", shown)
    return [(float(start), float(end), title) for start, end, title in rows]


def check_other_tags(path: Path) -> None:
    """Check a copy of a track with the tags that a client has chosen: the readers find them, and the same sound."""
    content = path.read_bytes()
    edits = TagEdits(title="Mine", artist="Jemand", cover=False)
    edit = edit_of(lambda start, size: content[start : start + size], len(content), edits)
    assert edit is not None
    other = path.with_stem("other")
    other.write_bytes(content[: edit.start] + edit.content + content[edit.end :])
    assert by_mutagen(other) == by_tinytag(other) == SONG | {"title": "Mine", "artist": "Jemand"}
    assert sound(other) == sound(path)


def check_both_forms(path: Path) -> None:
    """Check an M4A without its text track, and without its list: each has all chapters, and the same sound."""
    content = path.read_bytes()
    for mark in (b"\0\0\0\x0cchap", b"chpl"):
        assert content.count(mark) == 1
        other = path.with_stem("one form")
        other.write_bytes(content.replace(mark, mark[:-4] + b"free"))
        assert [(start, title) for start, _, title in chapters_by_ffmpeg(other)] == CHAPTERS, mark
        assert sound(other) == sound(path)


def sound(path: Path) -> bytes:
    """Return the hash of the packets that ffmpeg reads, without an error."""
    command = [FFMPEG, "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a", "-c", "copy", "-f", "md5", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout


async def test_a_song_has_the_tags_of_youtube_music_in_every_format(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        tracks = await asyncio.gather(*(own.convert(video_id(Kind.MUSIC, 7), format_=format_) for format_ in Format))
        for format_, track in zip(Format, tracks, strict=True):
            assert await asyncio.to_thread(by_mutagen, track.path) == SONG, format_
            assert await asyncio.to_thread(by_tinytag, track.path) == SONG, format_
            assert track.metadata.uploader == "Fake Artist 7"
            assert track.metadata.title == "Fake music 7"
            assert track.metadata.chapters == ()
            await asyncio.to_thread(check_other_tags, track.path)


async def test_every_reader_finds_the_chapters_in_every_format(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        tracks = await asyncio.gather(*(own.convert(video_id(Kind.CHAPTERS), format_=format_) for format_ in Format))
        for format_, track in zip(Format, tracks, strict=True):
            assert track.metadata.chapters == tuple(Chapter(start_seconds=at, title=title) for at, title in CHAPTERS)
            assert await asyncio.to_thread(chapters_by_mutagen, track.path) == CHAPTERS, format_
            shown = await asyncio.to_thread(chapters_by_ffmpeg, track.path)
            assert [(start, title) for start, _, title in shown] == CHAPTERS, format_
            assert [end for _, end, _ in shown[:-1]] == [start for start, _ in CHAPTERS[1:]]
            if format_ is Format.M4A:
                await asyncio.to_thread(check_both_forms, track.path)
            names = {"title": "Fake chapter 0", "artist": "Fake Artist 0"}
            assert await asyncio.to_thread(by_tinytag, track.path) == names, format_
