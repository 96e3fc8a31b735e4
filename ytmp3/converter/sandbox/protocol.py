"""What the server and its zygote say to each other: one JSON message per packet, descriptors beside it.

Also what the youtube child says to the server: one JSON event per line on its descriptor 3. Both directions are typed
here and nowhere else. No event carries a media URL or a cookie.
"""

from typing import Final

import msgspec
from msgspec import Struct

from ytmp3.converter.youtube.news import Extraction

MAX_PACKET_BYTES: Final = 128 * 1024
"""Far over any request we make; the sockets' default buffers take it."""


STATUS_DESCRIPTOR: Final = 3
"""Where the youtube child writes its events. Its 0 is /dev/null, its 1 and 2 are the log pipe."""

TOOL_NOT_STARTED: Final = 127
"""Exit status when the program could not be executed, as in a shell."""


class Walls(Struct, frozen=True, kw_only=True):
    """The limits put up before a tool starts (see `walls`)."""

    file_bytes: int
    cpu_seconds: int
    memory_bytes: int = 0
    """Address space; 0 for none (a JavaScript engine reserves more than it uses)."""
    data_bytes: int = 0
    """Memory of its own that it may write to, reserved or not; 0 for none."""
    niceness: int = 10
    core: int | None = None
    """The one it keeps to; None for all."""
    network: bool = False


class ForkYoutube(Struct, frozen=True, kw_only=True, tag=True):
    """Fork a child that runs `youtube.run`. Descriptors: the log pipe, the status pipe."""

    child: int
    extraction: Extraction
    walls: Walls


class Execute(Struct, frozen=True, kw_only=True, tag=True):
    """Fork and execute a program; the descriptors become its 0, 1, 2, 3, ... in order."""

    child: int
    argv: list[str]
    environment: dict[str, str]
    folder: str
    walls: Walls


class Signal(Struct, frozen=True, kw_only=True, tag=True):
    """Send a signal to the process group of a child; nothing happens if it has ended."""

    child: int
    signal: int


Request = ForkYoutube | Execute | Signal


class Ready(Struct, frozen=True, kw_only=True, tag=True):
    """The zygote's first words."""

    yt_dlp: str
    yt_dlp_ejs: str | None
    ejs_wanted: str | None
    """The solver version this yt-dlp asks for."""
    deno: str | None
    network_walls: bool
    """The kernel takes the seccomp filter."""


class Started(Struct, frozen=True, kw_only=True, tag=True):
    """The child exists."""

    child: int
    pid: int


class Refused(Struct, frozen=True, kw_only=True, tag=True):
    """The child could not be forked."""

    child: int
    reason: str


class Ended(Struct, frozen=True, kw_only=True, tag=True):
    """The child has ended and been reaped, and its group is gone. `status` is negative for a signal."""

    child: int
    status: int
    cpu_seconds: float


Answer = Ready | Started | Refused | Ended


encode_request = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(Request).decode
decode_answer = msgspec.json.Decoder(Answer).decode
