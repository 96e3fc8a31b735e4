"""Converts a video into a verified track: the Protocol, and its one implementation in `pipeline`.

A converter takes a video id, a recipe and a scratch folder. It writes a verified track into that folder and reports
progress, or raises a ConversionError. It has nothing to do with jobs, leases, HTTP or the shelf.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from ytmp3.converter.settings import Identity
from ytmp3.core.description import Description
from ytmp3.core.errors import Fault, Ytmp3Error
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.job import Metadata, Report, Stage
from ytmp3.core.playlist import Listing
from ytmp3.core.recipe import Recipe
from ytmp3.core.release import BUILT_IN_NAME
from ytmp3.core.rollout import WHOLE


class SandboxIncompleteError(Ytmp3Error):
    """This system cannot confine child processes, and the settings require it. The text says what is missing."""


class Converted(Struct, frozen=True, kw_only=True):
    """A verified and tagged track in the scratch folder. It is not fsynced yet."""

    path: Path
    size_bytes: int
    duration_seconds: float
    """Measured from the frames or packets."""
    sha256: str
    crc32: int
    loudness_lufs: float | None = None
    """The loudness of the track; None if it was not measured, or the track is silent."""
    metadata: Metadata
    stage_seconds: dict[Stage, float]
    """Wall time spent in each stage, without the time spent waiting for a slot. For metrics."""


class ToolCheck(Struct, frozen=True, kw_only=True):
    """The result of the check of one program."""

    name: str
    ok: bool
    version: str | None
    detail: str
    """The result in one line, for the operator."""


class Passage(Protocol):
    """The identity that one conversion uses for its page, player, media and cover: one egress route to YouTube."""

    @property
    def name(self) -> str:
        """The name of the identity in the settings."""

    def slowed(self) -> None:
        """Record that YouTube has warned with status 429, although the extraction succeeded."""

    async def extract_again(self) -> None:
        """Wait until the identity's budget allows another extraction of this conversion."""


class TrialPassage(Passage, Protocol):
    """A passage for the trial of a release. `engine.grants.Grant` implements it."""

    def begin(self) -> None:
        """Record that the extraction begins. Before that, the place in the budget can be given back."""

    def served(self, video_id: VideoId) -> None:
        """Record that YouTube served the video, so that an identity whose trial this is may be used again."""


class OnlyPassage:
    """The passage through an identity without a budget. Without a name, it is the first identity."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def slowed(self) -> None:
        """Do nothing."""

    async def extract_again(self) -> None:
        """Return at once."""


ONLY_PASSAGE: Final[Passage] = OnlyPassage()


class ReleaseInUse(Struct, frozen=True, kw_only=True):
    """Which release of yt-dlp new conversions use."""

    serial: int
    """Changes with each other release that is put into use."""
    is_refused: bool
    """Whether the operator's choice cannot be used, so that the built-in release is used instead."""
    established: str = BUILT_IN_NAME
    """The release of conversions that do not try a new one: a version, or BUILT_IN_NAME."""
    newest: str = BUILT_IN_NAME
    """The release that `share` per cent of new conversions use. Mostly it is the established one."""
    share: int = WHOLE
    quarantined: tuple[str, ...] = ()
    """Releases that are newer than the one in use, but that updates do not try again."""


class UpdateSurroundings(Protocol):
    """What updates of yt-dlp (YTDLP_UPDATE) need from the engine. `engine.release_updates` implements it."""

    def is_broken(self) -> bool:
        """Return whether conversions pause because the release in use does not understand YouTube."""

    def cause(self) -> Fault | None:
        """Return why conversions pause; None: they do not."""

    def turn(self) -> AbstractAsyncContextManager[str]:
        """Take the turn to try a release, until the block ends. Yields an empty text, or why it could not be taken."""

    def passage(self, video_id: VideoId) -> AbstractAsyncContextManager[TrialPassage]:
        """Wait for a place in the hourly budget of an identity, and keep it until the block ends."""


class SoundProgress(Protocol):
    """How a converter reports the sound that an encoder writes. `live_sound.LiveSound` implements it for listeners."""

    def begin(self, path: Path, *, seconds: float | None, is_variable: bool) -> None:
        """Report that an encoder begins to write this file: `seconds` of sound, perhaps with a variable bit rate."""

    def grow(self) -> None:
        """Report that the file has grown, or that it is complete."""

    def withdraw(self) -> None:
        """Report that the encoder has failed, so that its file must not be used. Another encoder may follow."""


class Observer(Struct, frozen=True):
    """The receivers of a converter's reports."""

    on_progress: Callable[[Report], None]
    sound: SoundProgress
    """Receives the progress of each MP3 encoder, so that clients can listen while it runs. Other formats have no live
    sound."""


class Converter(Protocol):
    """The interface that the engine uses. `pipeline.Pipeline` implements it."""

    def use_identities(self, identities: Sequence[Identity]) -> None:
        """Set the identities that a passage may name. Called at the start, and again for each SIGHUP."""

    def refused_cookies(self) -> Mapping[str, int]:
        """Return how many conversions had their cookies refused, by identity, since the start."""

    async def open(self) -> None:
        """Start the zygote. Called once, before the first conversion. `check` reports what is missing.

        Raises:
            SandboxIncompleteError: only if the settings require the sandbox.
        """

    def start_updates(self, surroundings: UpdateSurroundings) -> None:
        """Begin to look for newer releases of yt-dlp, if the settings say so. Called once, after `open`."""

    async def close(self) -> None:
        """End every process of this converter. Returns when none is left."""

    async def check(self) -> list[ToolCheck]:
        """Check yt-dlp, the JavaScript runtime and ffmpeg. Never cached; takes up to a second if all work."""

    def release(self) -> ReleaseInUse:
        """Return which release of yt-dlp new conversions use."""

    def release_outcomes(self) -> Mapping[tuple[str, str], int]:
        """Return how conversions have ended since the start, by release and `core.release_outcomes.ReleaseOutcome`."""

    def signs(self) -> Mapping[str, int]:
        """Return how often each sign of trouble at YouTube was seen since the start, also in conversions that succeed.

        The keys are values of `youtube.signs.Sign`.
        """

    def long_tracks(self) -> Mapping[str, int]:
        """Return how often long tracks were encoded in each way since the start.

        The keys are values of `long_track.LongEncoding`.
        """

    def solutions(self) -> Mapping[str, int]:
        """Return the number of requests to the solver since the start, by result.

        `warm`: solved by a running process; `cold`: after parsing a player script; `failed`: not solved, so that the
        conversion had to start its own deno.
        """

    async def list_playlist(self, url: str, client: ClientId, scratch: Path, *, max_items: int) -> Listing:
        """Read the first entries of the playlist at `url` (see `core.playlist`). `scratch` is an empty folder.

        It takes one of the slots for extractions, as a conversion of `client` does.

        Raises:
            ConversionError: it cannot be read. VIDEO_UNAVAILABLE: it does not exist, or it is private.
        """

    async def describe(
        self, video_id: VideoId, client: ClientId, scratch: Path, passage: Passage = ONLY_PASSAGE
    ) -> Description:
        """Find out what YouTube offers for a video, without a download. `scratch` is an empty folder.

        It takes one of the slots for extractions, as a conversion of `client` does.

        Raises:
            ConversionError: with the code of a conversion that fails in its extraction.
        """

    async def convert(
        self,
        video_id: VideoId,
        recipe: Recipe,
        client: ClientId,
        scratch: Path,
        observer: Observer,
        passage: Passage = ONLY_PASSAGE,
    ) -> Converted:
        """Convert one video. `scratch` is an empty folder, which the caller removes whatever happens.

        `passage` is the identity through which YouTube is asked.

        `client` is the client whose job created the conversion: extractions and encoders are shared between clients.

        Cancelling the task first ends its child processes (TERM to their groups, KILL after 5 s).

        Raises:
            ConversionError: its code identifies the failure (`core.errors.FAILURES`).
            NoProcess: a ConversionError too. No child process could be started, so other conversions would most likely
                fail as well.
        """
