"""Turns a thumbnail into a square cover. Pure. The downloading child calls it last, after it has left the network.

It runs in that child because a process of its own is expensive: ffmpeg for the cover cost 28 ms of CPU per conversion,
most of them for its start; this costs 5 ms.
"""

from io import BytesIO
from typing import Final

from PIL import Image, JpegImagePlugin

MAX_POINTS: Final = 4_000_000
"""Most pixels of a thumbnail, checked before anything is decoded. YouTube's largest have half as many."""

COVER_POINTS: Final = 720
"""Largest width and height of a cover, in pixels: the height of YouTube's thumbnails of middle size."""

JPEG_QUALITY: Final = 85
"""On Pillow's scale of 0 to 95."""

# Naming the plugin loads it together with this module, and keeps Pillow from ever loading another one.
_FORMAT: Final = JpegImagePlugin.JpegImageFile.format


def square_cover(thumbnail: bytes, *, letterboxed: bool) -> bytes:
    """Return the middle of a JPEG as a square JPEG.

    `letterboxed`: a 4:3 picture with black bars above and below a 16:9 one, as YouTube makes its older sizes; the bars
    are cut off.

    Raises:
        ValueError: it has too many pixels.
        OSError, and others of Pillow's: it is not a JPEG, or a broken one.
    """
    with Image.open(BytesIO(thumbnail), formats=[_FORMAT]) as picture:
        width, height = picture.size
        if width * height > MAX_POINTS:
            raise ValueError(f"{width} x {height} points")
        side = min(width, height * 3 // 4 if letterboxed else height)
        left, top = (width - side) // 2, (height - side) // 2
        square = picture.convert("RGB").crop((left, top, left + side, top + side))
    square.thumbnail((COVER_POINTS, COVER_POINTS))
    cover = BytesIO()
    square.save(cover, "JPEG", quality=JPEG_QUALITY)
    return cover.getvalue()


def rehearse_cover() -> None:
    """Make one cover from a blank picture, so that Pillow loads before the fork what it loads on first use (10 ms)."""
    blank = BytesIO()
    Image.new("RGB", (16, 9)).save(blank, "JPEG")
    square_cover(blank.getvalue(), letterboxed=False)
