"""Releases of yt-dlp from the index of a test, beside the built-in one."""

from pathlib import Path

from tests.stand.package_index import PackageIndex
from ytmp3.converter.releases.store import ReleaseStore
from ytmp3.converter.releases.workshop import Workshop
from ytmp3.converter.settings import ToolSettings


def settings_of(folder: Path, index: PackageIndex) -> ToolSettings:
    return ToolSettings(
        ffmpeg_path=None,
        egress_proxy=None,
        egress_ca_file=None,
        cookies_file=None,
        extract_concurrency=1,
        encode_concurrency=1,
        releases_folder=folder,
        package_index=index.url,
    )


async def use_untried(folder: Path, index: PackageIndex, version: str) -> None:
    """Fetch and choose a release without a trial, which takes most of the time."""
    store = ReleaseStore(folder)
    with store.changing():
        await Workshop(settings_of(folder, index), store, {}).fetch(version)
        store.choose(version)
