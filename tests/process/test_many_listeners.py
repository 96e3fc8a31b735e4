"""Several listeners share one real conversion. `python -m scripts.listeners` does the same with fifty."""

from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.many_listeners import listen_together
from tests.stand.service_process import egress, service_process


async def test_eight_listeners_share_one_extraction_and_one_encoder(youtube: Spawned, tmp_path: Path) -> None:
    async with service_process(tmp_path, **egress(youtube), LOG_LEVEL="warning") as service:
        figures = await listen_together(youtube, service, video_id(Kind.SLOW, 6100), 8)
    assert figures["bytes"] > 300_000
