"""A thumbnail becomes a square cover. Pure; run by the youtube child as its last act, when it has left the network.

In that child, because it is there anyway: an ffmpeg of its own cost 28 ms of CPU a conversion, most of them its start;
this costs 5.
"""

from io import BytesIO
from typing import Final

from PIL import Image, JpegImagePlugin

MAX_POINTS: Final = 4_000_000
"""YouTube's largest thumbnails have half of it. Judged before anything is decoded."""
COVER_POINTS: Final = 720
"""Each way: what the thumbnail of middle size has."""
JPEG_QUALITY: Final = 85

# Named, so that the plugin is loaded when this module is, and no other one ever is.
_FORMAT: Final = JpegImagePlugin.JpegImageFile.format


def square_cover(thumbnail: bytes, *, letterboxed: bool) -> bytes:
    """Return the middle of a JPEG as a square JPEG.

    `letterboxed`: 4:3, with black bars above and below a 16:9 picture, as YouTube makes its older sizes; they are cut.

    Raises:
        ValueError, and whatever else Pillow says of a picture that is none.
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
    """Load what Pillow loads with the first picture: its plugins for other formats too, 10 ms."""
    blank = BytesIO()
    Image.new("RGB", (16, 9)).save(blank, "JPEG")
    square_cover(blank.getvalue(), letterboxed=False)
