"""The playlists of `tests.fakes.FakeConverter`."""

from pathlib import Path

from ytmp3.core.errors import ConversionError
from ytmp3.core.playlist import Listing


class FakePlaylists:
    """Returns what a test has set for each playlist."""

    def __init__(self) -> None:
        self.playlists: dict[str, Listing | ConversionError] = {}
        """What is read of each playlist, or why it cannot be read."""
        self.listed: list[str] = []
        """The playlists that were read."""

    async def list_playlist(self, url: str, client: str, scratch: Path, *, max_items: int) -> Listing:
        self.listed.append(url)
        found = self.playlists[url]
        if isinstance(found, ConversionError):
            raise found
        return found
