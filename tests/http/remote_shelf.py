"""A fake shelf that is not a folder."""

from collections.abc import Sequence
from pathlib import Path

from ytmp3.core.job import Track
from ytmp3.storage import Delivery, Description, OpenFile, Url


class RemoteShelf:
    """A shelf whose tracks are fetched from another address, as from an object store."""

    async def publish(self, source: Path, file_name: str, description: Description) -> float:
        raise NotImplementedError

    async def holds(self, track: Track) -> bool:
        return True

    async def has_all(self, tracks: Sequence[Track]) -> bool:
        return True

    async def crc32(self, file_name: str) -> int | None:
        return None

    async def deliver(self, track: Track, *, may_redirect: bool, may_leave: bool = False) -> Delivery | None:
        return Url(f"https://tracks.example/{track.file_name}")

    async def is_damaged(self, track: Track) -> bool:
        raise NotImplementedError

    async def delete(self, file_name: str) -> None:
        raise NotImplementedError

    def close_file(self, file: OpenFile) -> None:
        raise NotImplementedError

    def try_publishing(self, source: Path) -> None:
        raise NotImplementedError

    async def sign(self, installation: str) -> float | None:
        return None

    async def mark(self) -> str:
        raise NotImplementedError

    async def names(self, *, older_than_seconds: float) -> list[str]:
        return []
