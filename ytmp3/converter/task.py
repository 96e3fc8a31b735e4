"""What one conversion is to do, and how its youtube child asks YouTube: the extraction, and the child's profile."""

from pathlib import Path

from msgspec import Struct

from ytmp3.converter import Passage
from ytmp3.converter.sandbox.protocol import Profile
from ytmp3.converter.settings import ConversionLimits, Identity
from ytmp3.converter.tools import Tools, copy_of_cookies
from ytmp3.converter.youtube.events import Extraction
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.recipe import Recipe


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
    excluded_formats: tuple[str, ...] = ()
    """Formats of YouTube that could not be decoded in an earlier try."""


async def way_of(tools: Tools, limits: ConversionLimits, task: Task) -> tuple[Extraction, Profile]:
    """Return the task of the youtube child, and its profile. Copies the cookies of the identity.

    yt-dlp writes its cookies back at the end. It gets a copy, so that conversions do not overwrite each other's.
    """
    identity = task.identity
    cookies = identity.cookies_file
    if cookies is not None:
        cookies = await tools.files.run(copy_of_cookies, cookies, task.scratch / "cookies")
    rungs_to_ask, left_out = tools.ladder_of(identity).way()
    extraction = Extraction(
        video_id=task.video_id,
        scratch=str(task.scratch),
        egress=identity.egress,
        cookies_file=None if cookies is None else str(cookies),
        max_duration_seconds=limits.max_duration_seconds,
        max_file_bytes=limits.max_file_bytes,
        format=task.recipe.format,
        language=task.recipe.language,
        excluded_formats=task.excluded_formats,
        rungs=rungs_to_ask,
        left_out=left_out,
    )
    return extraction, tools.profiles.youtube_through(identity.egress)
