"""The conversion of a thumbnail to a square cover, and the files that are accepted as covers."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from ytmp3.converter.audio.tags import MAX_COVER_BYTES
from ytmp3.converter.audio.verify import read_cover
from ytmp3.converter.youtube.cover import COVER_POINTS, rehearse_cover, square_cover


def drawn(picture: Image.Image, kind: str = "JPEG") -> bytes:
    content = BytesIO()
    picture.save(content, kind)
    return content.getvalue()


def thumbnail(width: int, height: int, mode: str = "RGB") -> bytes:
    return drawn(Image.new(mode, (width, height)))


def cover_of(content: bytes, *, letterboxed: bool = False) -> Image.Image:
    cover = Image.open(BytesIO(square_cover(content, letterboxed=letterboxed)))
    assert cover.format == "JPEG"
    return cover


@pytest.mark.parametrize(
    ("width", "height", "side"),
    [(1280, 720, 720), (480, 360, 360), (320, 180, 180), (90, 120, 90), (16, 16, 16), (1920, 1080, COVER_POINTS)],
)
def test_a_cover_is_the_square_in_the_middle(width: int, height: int, side: int) -> None:
    assert cover_of(thumbnail(width, height)).size == (side, side)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_cover_is_rgb_whatever_the_mode_of_the_thumbnail(mode: str) -> None:
    assert cover_of(thumbnail(64, 36, mode)).mode == "RGB"


def test_the_bars_of_a_letterboxed_thumbnail_are_cut_off() -> None:
    picture = Image.new("RGB", (480, 360))
    picture.paste((250, 250, 250), (0, 45, 480, 315))
    cover = cover_of(drawn(picture), letterboxed=True).convert("L")
    assert cover.size == (270, 270)
    darkest, _ = cover.getextrema()
    assert isinstance(darkest, int)
    assert darkest > 200


def test_a_thumbnail_that_is_not_a_jpeg_or_too_large_is_refused() -> None:
    for content in (b"", b"\xff\xd8\xff", b"junk" * 100, drawn(Image.new("RGB", (16, 9)), "PNG")):
        with pytest.raises(OSError):
            square_cover(content, letterboxed=False)
    with pytest.raises(ValueError, match="2001 x 2000 points"):
        square_cover(thumbnail(2001, 2000), letterboxed=False)


def test_the_rehearsal_makes_a_cover_without_a_thumbnail() -> None:
    rehearse_cover()


def test_a_cover_is_read_from_a_plain_file_only(tmp_path: Path) -> None:
    cover = square_cover(thumbnail(16, 9), letterboxed=False)
    (tmp_path / "cover").write_bytes(cover)
    (tmp_path / "link").symlink_to(tmp_path / "cover")
    (tmp_path / "text").write_bytes(b"root:x:0:0")
    (tmp_path / "large").write_bytes(cover + bytes(MAX_COVER_BYTES))
    assert read_cover(tmp_path / "cover") == cover
    assert [read_cover(tmp_path / name) for name in ("link", "text", "large", "nothing")] == [None] * 4
