"""What is asked of the output."""

from enum import StrEnum
from typing import Final

from ytmp3.core.ids import ConversionKey, VideoId


class Quality(StrEnum):
    """The quality of the MP3: constant bit rate in kbit/s, or LAME's variable V presets."""

    K96 = "96k"
    K128 = "128k"
    K160 = "160k"
    K192 = "192k"
    K256 = "256k"
    K320 = "320k"
    V0 = "V0"
    V2 = "V2"
    V5 = "V5"


DEFAULT_QUALITY: Final = Quality.K192


def conversion_key(video_id: VideoId, quality: Quality) -> ConversionKey:
    """Return the dedup key: one spelling for every spelling of a link."""
    return ConversionKey(f"youtube:{video_id}:mp3-{quality.lower()}")
