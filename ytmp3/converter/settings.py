"""The settings of the converter."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from ytmp3.converter.audio.segments import Plan
from ytmp3.core.ids import VideoId
from ytmp3.core.rollout import OFF


class ConversionLimits(Struct, frozen=True, kw_only=True):
    """The limits of one conversion. The server enforces them itself, and does not rely on yt-dlp or ffmpeg."""

    max_duration_seconds: float
    """Longest video, by its announced duration and by the duration that is measured while encoding."""
    max_file_bytes: int
    """Largest download, and largest MP3."""
    extract_seconds: float = 60.0
    download_seconds: float = 900.0
    encode_seconds: float = 600.0
    """Longest time to encode up to one hour of audio; longer audio gets proportionally more."""
    idle_seconds: float = 60.0
    """Longest time without a new byte from YouTube, or without progress of the encoder."""
    division: Plan = Plan()
    """Which tracks are encoded by several encoders, where cores are idle, and in which segments."""


class Egress(Struct, frozen=True, kw_only=True):
    """The way of a conversion's connections to YouTube."""

    proxy: str | None = None
    """Its URL may contain a password."""
    family: str = "auto"
    """IP version of the connections: auto, 4 or 6."""
    source_address: str | None = None

    def __repr__(self) -> str:
        """Show nothing: a repr may appear in logs and tracebacks."""
        return "Egress(...)"


class Identity(Struct, frozen=True, kw_only=True):
    """One egress route to YouTube."""

    name: str
    """For logs, metrics and `/stats`. Nothing else of an identity appears there."""
    egress: Egress
    cookies_file: Path | None = None
    videos_per_hour: int
    """Most extractions in any hour; 0: no limit."""
    has_po_tokens: bool = False
    """Whether the provider of PO tokens may be asked for this identity."""

    def __repr__(self) -> str:
        """Show only the name: the proxy may contain a password."""
        return f"Identity({self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSettings:
    """The operator's settings for yt-dlp, its JavaScript runtime and ffmpeg."""

    ffmpeg_path: Path | None
    """The ffmpeg to use; None: the binary of the imageio-ffmpeg wheel."""
    egress_proxy: str | None = field(repr=False)
    """The URL of the proxy for traffic to YouTube. It may contain a password, so it is not in the repr."""
    egress_ca_file: Path | None
    """A certificate authority to trust in addition to those of the system."""
    cookies_file: Path | None
    extract_concurrency: int
    """Most extractions at once in this instance."""
    encode_concurrency: int
    """Most encoders at once in this instance."""
    egress_family: str = "auto"
    """IP version of the connections to YouTube: auto, 4 or 6."""
    egress_source_address: str | None = None
    """Address of this machine from which YouTube is asked."""
    pot_provider_url: str | None = field(default=None, repr=False)
    """The URL of the provider of proof-of-origin tokens, without a slash at the end; None: there is none."""
    requires_sandbox: bool = False
    """Whether the service must not start where child processes cannot be confined."""
    videos_per_hour: int = 0
    """Most extractions in any hour (EGRESS_VIDEOS_PER_HOUR) where there is no IDENTITIES_FILE; 0: no limit."""
    extractor_args: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Arguments of yt-dlp's YouTube extractor, such as `player_client`."""
    clients: tuple[tuple[str, ...], ...] = ()
    """Groups of yt-dlp's player clients, which are asked one group after the other; empty: the usual ones."""
    releases_folder: Path | None = None
    """The folder of the releases of yt-dlp that were fetched; None: only the built-in release is used."""
    update: str = OFF
    """Which releases of yt-dlp are used without a command: OFF, STABLE or NIGHTLY."""
    canary_videos: tuple[VideoId, ...] = ()
    """Videos with which a release is tried at YouTube before an update uses it."""
    package_index: str | None = None
    """The URL of the package index for `ytmp3 extractor`, without a slash at the end; None: nothing can be fetched."""
