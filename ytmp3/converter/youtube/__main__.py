"""The program that the server starts as its zygote (`python -m ytmp3.converter.youtube`): yt-dlp, preloaded."""

from msgspec import json

from ytmp3.converter.sandbox.zygote import Preloaded, serve
from ytmp3.converter.youtube.events import Preload


def preload(first_packet: bytes) -> Preloaded:
    """Load everything that all conversions share. `first_packet` is a Preload, as JSON."""
    from ytmp3.converter.youtube.preloaded import PreloadedYoutube  # noqa: PLC0415  with the garbage collector off

    return PreloadedYoutube(json.decode(first_packet, type=Preload))


def main() -> None:
    """Serve until the server closes its end of the socket."""
    serve(preload)


if __name__ == "__main__":
    main()
