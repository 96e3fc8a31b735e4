"""Playlists are read with the real yt-dlp from the fake YouTube, in a forked child."""

from pathlib import Path

import pytest

from tests.fake_youtube import Spawned
from tests.fake_youtube.playlists import entry_id, list_id
from tests.stand.pipeline import RunningPipeline, running_pipeline
from ytmp3.converter.youtube.events import Preload
from ytmp3.converter.youtube.listing import listing_options
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.ids import ClientId
from ytmp3.core.playlist import Listing


async def listed(own: RunningPipeline, name: str, max_items: int = 1000) -> Listing:
    url = f"https://www.youtube.com/playlist?list={name}"
    return await own.pipeline.list_playlist(url, ClientId("addr:192.0.2.1"), own.folder, max_items=max_items)


async def test_lists_of_every_kind_are_read(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        ordinary = await listed(own, list_id("ordinary", 250))
        assert [entry.video_id for entry in ordinary.entries] == [entry_id(number) for number in range(250)]
        assert (ordinary.title, ordinary.is_truncated) == ("List ordinary ☃", False)
        exact = await listed(own, list_id("ordinary", 100), max_items=100)
        assert (len(exact.entries), exact.is_truncated) == (100, False)
        endless = await listed(own, list_id("endless"), max_items=230)
        assert (len(endless.entries), endless.is_truncated) == (230, True)
        private = await listed(own, list_id("private", 10))
        assert [entry.code for entry in private.entries[:5]] == [None, "private", "removed", None, None]
        changing = await listed(own, list_id("changing", 250))
        assert {entry.video_id for entry in changing.entries} == {entry_id(number) for number in range(250)}
        with pytest.raises(ConversionError) as failure:
            await listed(own, list_id("missing"))
        assert failure.value.code is FailureCode.VIDEO_UNAVAILABLE


def test_the_options_of_a_listing_allow_lists_only() -> None:
    options = listing_options(Preload(egress_proxy=None, egress_ca_file=None, deno_path=None))
    assert options["allowed_extractors"] == [r"^youtube:(?:tab|playlist)$"]
    assert (options["extract_flat"], options["skip_download"], options["noplaylist"]) == (True, True, False)
    assert (options["cachedir"], options["cookiefile"], options["usenetrc"]) == (False, None, False)
