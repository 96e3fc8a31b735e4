"""A fake YouTube that the real yt-dlp extracts and downloads from, on loopback. See README.md."""

from .counting import Counts
from .fake import FakeYouTube
from .kinds import BEHAVIOURS, Behaviour, Kind, kind_of, video_id, watch_url
from .odd_values import HOSTILE_TITLES, ODD_FIELDS
from .server import Pace
from .spawn import Spawned, spawn

__all__ = [
    "BEHAVIOURS",
    "HOSTILE_TITLES",
    "ODD_FIELDS",
    "Behaviour",
    "Counts",
    "FakeYouTube",
    "Kind",
    "Pace",
    "Spawned",
    "kind_of",
    "spawn",
    "video_id",
    "watch_url",
]
