"""The playlists and the descriptions of videos of `tests.fakes.FakeConverter`."""

import asyncio
from pathlib import Path
from typing import Final

from ytmp3.converter import ONLY_PASSAGE, Passage
from ytmp3.core.description import AudioTrack, CopiedSound, Description
from ytmp3.core.errors import ConversionError
from ytmp3.core.job import Metadata
from ytmp3.core.language import Language
from ytmp3.core.playlist import Listing
from ytmp3.core.recipe import Format

DESCRIPTION: Final = Description(
    metadata=Metadata(title="A video", uploader="Someone", duration_seconds=240.0, thumbnail_url=None),
    original=AudioTrack(
        language=Language("en-US"),
        is_original=True,
        copies=(CopiedSound(format=Format.OPUS, bitrate_kbps=128.0, size_bytes=3_840_000),),
    ),
    languages=(
        AudioTrack(
            language=Language("en-US"),
            is_original=True,
            copies=(CopiedSound(format=Format.OPUS, bitrate_kbps=128.0, size_bytes=3_840_000),),
        ),
        AudioTrack(language=Language("de"), is_original=False, copies=()),
    ),
)


class FakePlaylists:
    """Returns what a test has set for each playlist and each video."""

    def __init__(self) -> None:
        self.playlists: dict[str, Listing | ConversionError] = {}
        """What is read of each playlist, or why it cannot be read."""
        self.descriptions: dict[str, Description | ConversionError] = {}
        """What YouTube offers for videos, or why it offers nothing; DESCRIPTION for others."""
        self.described: list[str] = []
        """The videos that were described, once for each time."""
        self.described_through: list[str] = []
        """The identities that were used for it."""
        self.held_descriptions: dict[str, asyncio.Event] = {}
        """Videos that are described only once their event is set."""
        self.listed: list[str] = []
        """The playlists that were read."""

    async def describe(self, video_id: str, client: str, scratch: Path, passage: Passage = ONLY_PASSAGE) -> Description:
        """Return what a test has set for the video, once its event is set if there is one."""
        self.described.append(video_id)
        self.described_through.append(passage.name)
        if video_id in self.held_descriptions:
            await self.held_descriptions[video_id].wait()
        found = self.descriptions.get(video_id, DESCRIPTION)
        if isinstance(found, ConversionError):
            raise found
        return found

    async def list_playlist(self, url: str, client: str, scratch: Path, *, max_items: int) -> Listing:
        self.listed.append(url)
        found = self.playlists[url]
        if isinstance(found, ConversionError):
            raise found
        return found
