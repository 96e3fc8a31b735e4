"""Messages between the server and the YouTube child."""

from typing import Final

import msgspec
from msgspec import Struct

from ytmp3.core.ids import VideoId
from ytmp3.core.job import Metadata

MAX_LINE_BYTES: Final = 32 * 1024
"""An event's text fields are capped so that it always fits; a longer line is not ours and is dropped."""


class Preload(Struct, frozen=True, kw_only=True):
    """The server's first words: what is the same for every conversion."""

    egress_proxy: str | None
    egress_ca_file: str | None
    deno_path: str | None


class Extraction(Struct, frozen=True, kw_only=True):
    """One conversion's task for the youtube child. All paths lie in the conversion's scratch folder."""

    video_id: VideoId
    scratch: str
    cookies_file: str | None
    max_duration_seconds: float
    max_file_bytes: int


class Found(Struct, frozen=True, kw_only=True, tag=True):
    """The extraction is over: what the video is, and which format comes."""

    metadata: Metadata
    format_id: str
    container: str | None
    codec: str | None
    bitrate_kbps: float | None
    announced_bytes: int | None


class Spooling(Struct, frozen=True, kw_only=True, tag=True):
    """A download begins in this file of the scratch folder; a second one replaces what came before."""

    name: str


class Grown(Struct, frozen=True, kw_only=True, tag=True):
    """So many bytes of the spool are on disk."""

    size_bytes: int
    total_bytes: int | None


class Downloaded(Struct, frozen=True, kw_only=True, tag=True):
    """The spool is complete."""

    size_bytes: int


class Cover(Struct, frozen=True, kw_only=True, tag=True):
    """The cover, a square JPEG, is in this file of the scratch folder."""

    name: str


class Refusal(Struct, frozen=True, kw_only=True, tag=True):
    """Our own check refuses the video: the code is a FailureCode's value."""

    code: str
    reason: str


class ToolError(Struct, frozen=True, kw_only=True, tag=True):
    """yt-dlp gave up, in its own words (capped, URLs shortened), after these warnings."""

    message: str
    warnings: str


News = Found | Spooling | Grown | Downloaded | Cover | Refusal | ToolError


decode_news = msgspec.json.Decoder(News).decode
