"""What one conversion is to do, and how its youtube child asks YouTube: the extraction, and the child's profile."""

from pathlib import Path
from typing import Self

from msgspec import Struct, structs

from ytmp3.converter import Passage, SoundProgress
from ytmp3.converter.cookies import well_formed
from ytmp3.converter.sandbox.protocol import Profile
from ytmp3.converter.settings import ConversionLimits, Identity
from ytmp3.converter.tools import Tools
from ytmp3.converter.youtube.events import Extraction
from ytmp3.converter.youtube.ladder import Ladder
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.recipe import Recipe


class CookiesCopy(Struct, frozen=True, kw_only=True):
    """A copy of the cookies of an account, for one try."""

    path: Path
    content: bytes
    """What was copied. The child changes the file."""

    def again_at(self, path: Path) -> Self:
        """Write the same cookies for another try, which may use files in its own folder only. Blocking."""
        path.write_bytes(well_formed(self.content))
        return structs.replace(self, path=path)

    def __repr__(self) -> str:
        """Show nothing: a repr may appear in logs and tracebacks."""
        return "CookiesCopy(...)"


class Task(Struct, frozen=True, kw_only=True):
    """One try of a conversion."""

    video_id: VideoId
    recipe: Recipe
    client: ClientId
    scratch: Path
    passage: Passage
    """The budget and the state of the identity that is used."""
    identity: Identity
    """Its way to YouTube. A running conversion keeps it when SIGHUP replaces the identities."""
    cookies: CookiesCopy | None = None
    """The cookies to use; None: YouTube is asked as a guest."""
    is_repeated: bool = False
    """Whether an earlier try of this conversion has extracted already, so that this one takes from the budget, too."""
    sound: SoundProgress | None = None
    """What listeners hear; None if nothing is encoded."""
    excluded_formats: tuple[str, ...] = ()
    """Formats of YouTube that could not be decoded in an earlier try."""


def way_of(tools: Tools, limits: ConversionLimits, task: Task) -> tuple[Extraction, Profile]:
    """Return the task of the youtube child, and its profile."""
    rungs_to_ask, left_out = ladder_of(tools, task).way()
    extraction = Extraction(
        video_id=task.video_id,
        scratch=str(task.scratch),
        egress=task.identity.egress,
        cookies_file=None if task.cookies is None else str(task.cookies.path),
        max_duration_seconds=limits.max_duration_seconds,
        max_file_bytes=limits.max_file_bytes,
        format=task.recipe.format,
        language=task.recipe.language,
        excluded_formats=task.excluded_formats,
        rungs=rungs_to_ask,
        left_out=left_out,
    )
    return extraction, tools.profiles.youtube_through(task.identity.egress)


def ladder_of(tools: Tools, task: Task) -> Ladder:
    """Return the ways of asking, which depend on whether there are cookies and PO tokens."""
    return tools.ladders[task.cookies is not None, task.identity.has_po_tokens]
