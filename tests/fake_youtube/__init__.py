"""A fake YouTube that the real yt-dlp extracts and downloads from, on loopback. See README.md."""

from .behaviour import Behaviour, Client
from .counting import Counts
from .fake import FakeYouTube, Weight
from .kinds import Kind, kind_of, video_id, watch_url
from .odd_values import HOSTILE_TITLES, ODD_FIELDS
from .pace import Pace
from .spawn import Spawned, spawn
from .table import BEHAVIOURS, UNKIND

__all__ = [
    "BEHAVIOURS",
    "HOSTILE_TITLES",
    "ODD_FIELDS",
    "UNKIND",
    "Behaviour",
    "Client",
    "Counts",
    "FakeYouTube",
    "Kind",
    "Pace",
    "Spawned",
    "Weight",
    "kind_of",
    "spawn",
    "video_id",
    "watch_url",
]
