"""What the server and the downloading child process say to each other.

The server sends a Preload to the zygote and an Extraction to each child. The child answers with events: one JSON object
per line on its descriptor 3. No event holds a media address or a cookie.
"""

from typing import Final

import msgspec
from msgspec import Struct

from ytmp3.converter.sandbox.protocol import FIRST_MORE_DESCRIPTOR
from ytmp3.converter.settings import Egress
from ytmp3.converter.youtube.evidence import Formats
from ytmp3.converter.youtube.ladder import DEFAULT, Rung
from ytmp3.core.description import Description
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Metadata
from ytmp3.core.language import ORIGINAL, Language
from ytmp3.core.recipe import Format

MAX_LINE_BYTES: Final = 64 * 1024
"""Longest line of an event. The text fields are cut so that every event fits; a longer line is not one and is
dropped."""

PERMITS_DESCRIPTOR: Final = FIRST_MORE_DESCRIPTOR
"""The child's descriptor from which it reads its permits (`permits`)."""

SOLVER_DESCRIPTOR: Final = FIRST_MORE_DESCRIPTOR + 1
"""The child's connection to the solver, if there is one."""


TOKENS_DESCRIPTOR: Final = FIRST_MORE_DESCRIPTOR + 2
"""The child's connection for proof-of-origin tokens, if there is a provider."""


class Preload(Struct, frozen=True, kw_only=True):
    """The first packet to the zygote: what is the same for every conversion."""

    egress_proxy: str | None
    egress_ca_file: str | None
    deno_path: str | None
    egress_family: str = "auto"
    """IP version of the connections: auto, 4 or 6."""
    egress_source_address: str | None = None
    extractor_args: dict[str, tuple[str, ...]] = {}
    """Arguments of yt-dlp's YouTube extractor."""


class Versions(Struct, frozen=True, kw_only=True):
    """What the zygote has loaded."""

    yt_dlp: str
    yt_dlp_ejs: str | None
    """Version of the installed challenge solver; None if it is not installed."""
    ejs_wanted: str | None
    """Version of the challenge solver that this yt-dlp was released with; None if it does not say."""
    deno: str | None
    """Version of the JavaScript runtime; None if it does not start."""
    default_clients: tuple[str, ...] = ()
    """The player clients that yt-dlp asks by its own choice, without cookies."""
    default_clients_with_cookies: tuple[str, ...] = ()


class Extraction(Struct, frozen=True, kw_only=True, tag=True):
    """The task of one child. All paths are in the conversion's scratch folder."""

    video_id: VideoId
    scratch: str
    cookies_file: str | None
    max_duration_seconds: float
    max_file_bytes: int
    egress: Egress | None = None
    """None: that of the Preload."""
    format: Format = Format.MP3
    """The requested format of the track, which decides whose codec may be downloaded."""
    language: Language = ORIGINAL
    """The requested language of the sound."""
    excluded_formats: tuple[str, ...] = ()
    """YouTube's formats that could not be decoded in an earlier try of this conversion."""
    solver_seconds: float | None = None
    """Longest wait for the solver, in seconds; None: there is no connection to it."""
    token_seconds: float | None = None
    """Longest wait for a proof-of-origin token, in seconds; None: there is no provider."""
    rungs: tuple[Rung, ...] = (DEFAULT,)
    """The ways to ask, the first one first."""
    left_out: tuple[str, ...] = ()
    """Player clients that are not to be asked, by YouTube's names, such as TVHTML5."""


class ListTask(Struct, frozen=True, kw_only=True, tag=True):
    """The task of a child that reads a playlist."""

    url: str
    max_items: int
    scratch: str
    egress: Egress | None = None
    """None: that of the Preload."""


class ProbeTask(Struct, frozen=True, kw_only=True, tag=True):
    """The task of a child that tries one way to ask YouTube, for `ytmp3 doctor`. Nothing is written to disk."""

    extraction: Extraction
    """As for a conversion. Only its first rung is asked."""
    later_seconds: float
    """Place in the track, in seconds, at which the second sample is taken."""

    @property
    def scratch(self) -> str:
        """The child's folder."""
        return self.extraction.scratch


class DescribeTask(Struct, frozen=True, kw_only=True, tag=True):
    """The task of a child that finds out what YouTube offers for a video. Nothing is downloaded."""

    extraction: Extraction
    """As for a conversion to MP3 in the original language, which every video with sound allows."""

    @property
    def scratch(self) -> str:
        """The child's folder."""
        return self.extraction.scratch


class Facts(Struct, frozen=True, kw_only=True):
    """What an extraction met, for logs and metrics, also of one that succeeded."""

    rung: Rung = DEFAULT
    """By which way YouTube was asked last."""
    failed_rungs: tuple[Rung, ...] = ()
    """The ways that failed before it."""
    client: str = ""
    """The player client whose link was chosen, by YouTube's name; empty: none, or the link does not say."""
    formats: Formats = Formats()
    signs: dict[str, int] = {}
    """How often each sign was seen. The keys are values of `Sign`."""


class Extracted(Struct, frozen=True, kw_only=True, tag=True):
    """An extraction is over, and the video passed all checks. A later one of a child gives back its permit."""

    metadata: Metadata
    facts: Facts
    format_id: str = ""
    has_other_formats: bool = False
    """Whether there is another format to try if this one cannot be decoded."""
    track_seconds: float | None = None
    """Announced duration of the chosen format's own track, which may be shorter than the video."""
    format: str = ""
    """YouTube's format that will be downloaded, in words for the log."""


class ExtractionWanted(Struct, frozen=True, kw_only=True, tag=True):
    """The media were refused: the child waits for a permit to extract again."""


class Waiting(Struct, frozen=True, kw_only=True, tag=True):
    """No byte comes for some time: YouTube's links are valid only after the time of an advertisement."""

    seconds: float


class SpoolOpened(Struct, frozen=True, kw_only=True, tag=True):
    """A download begins in this file of the scratch folder. A second one with another name replaces the first."""

    name: str


class SpoolGrown(Struct, frozen=True, kw_only=True, tag=True):
    """The spool has this size on disk now."""

    size_bytes: int
    total_bytes: int | None
    """Its final size; None where the server of the media does not say."""


class Downloaded(Struct, frozen=True, kw_only=True, tag=True):
    """The spool is complete."""

    size_bytes: int
    rung: Rung = DEFAULT
    """By which way YouTube was asked last."""
    failed_rungs: tuple[Rung, ...] = ()
    """The ways that failed before it, in the extraction or in the download."""
    client: str = ""
    """The player client whose link was downloaded, by YouTube's name; empty if the link does not say."""
    refused_clients: tuple[str, ...] = ()
    """The clients whose links were refused before."""


class CoverWritten(Struct, frozen=True, kw_only=True, tag=True):
    """The cover, a square JPEG, is in this file of the scratch folder."""

    name: str


class Listed(Struct, frozen=True, kw_only=True, tag=True):
    """An entry of a playlist."""

    video_id: VideoId
    code: str | None


class ListEnded(Struct, frozen=True, kw_only=True, tag=True):
    """The playlist was read to its end, or to the limit."""

    title: str | None
    is_truncated: bool


class Described(Struct, frozen=True, kw_only=True, tag=True):
    """What YouTube offers of the video."""

    description: Description
    facts: Facts


class Sample(Struct, frozen=True, kw_only=True):
    """A piece of a track that a probe has fetched."""

    size_bytes: int
    seconds: float
    error: str = ""
    """Why it could not be fetched; empty: it was."""


class Probed(Struct, frozen=True, kw_only=True, tag=True):
    """What a probe has found until now. The child sends it after each step; the last one counts."""

    facts: Facts = Facts()
    requests: int = 0
    """Requests to YouTube."""
    extract_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """CPU time of the child, and of a deno that it started; not of the solver's deno."""
    peak_bytes: int = 0
    """Largest resident memory of the child, with the part that it shares with the zygote."""
    code: str = ""
    """Value of the FailureCode of an extraction that failed; empty: it succeeded."""
    reason: str = ""
    format: str = ""
    """The format that a conversion would download, in words."""
    track_seconds: float | None = None
    """Announced duration."""
    is_solved: bool = False
    """Whether the link contains the solution of a challenge (`n`)."""
    has_token: bool = False
    """Whether the link contains a proof-of-origin token."""
    family: int | None = None
    """IP version of the connections to YouTube, or to the proxy if there is one: 4 or 6."""
    link_family: int | None = None
    """IP version of the address that the link was made for; None: the link does not say."""
    beginning: Sample | None = None
    """The first sample; None: not taken yet."""
    later: Sample | None = None
    """The second one; None: not taken yet, or the track is too short."""


class Failed(Struct, frozen=True, kw_only=True, tag=True):
    """The child gives up: yt-dlp did, or a check of ours refuses the video."""

    code: str
    """Value of a FailureCode: the verdict."""
    reason: str
    """For the log: often yt-dlp's own text, cut to a bounded length, with addresses cut to their host."""
    facts: Facts


Event = (
    Extracted
    | ExtractionWanted
    | Waiting
    | SpoolOpened
    | SpoolGrown
    | Downloaded
    | CoverWritten
    | Listed
    | ListEnded
    | Described
    | Probed
    | Failed
)


decode_event = msgspec.json.Decoder(Event).decode
decode_task = msgspec.json.Decoder(Extraction | ListTask | DescribeTask | ProbeTask).decode
