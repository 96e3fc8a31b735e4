"""Real messages of ffmpeg, and the error code of each."""

import pytest

from ytmp3.converter.audio.messages import code_of_ffmpeg_message
from ytmp3.core.errors import FailureCode as F

FFMPEG = [
    (F.MEDIA_INVALID, "[matroska,webm @ 0x1] EBML header parsing failed\nInvalid data found when processing input"),
    (F.MEDIA_INVALID, "[mov,mp4,m4a,3gp,3g2,mj2 @ 0x1] moov atom not found"),
    (F.MEDIA_INVALID, "Error opening input file fd:.\nError opening input files: Invalid data found"),
    (F.MEDIA_INVALID, "[dec:aac @ 0x1] Error submitting packet to decoder: Invalid data found"),
    (F.MEDIA_INVALID, "[matroska @ 0x1] Codec (hevc) not on whitelist 'aac,opus'"),
    (F.MEDIA_INVALID, "[in#0 @ 0x1] error reading header\n[in#0 @ 0x1] Error opening input: Cannot allocate memory"),
    (F.MEDIA_INVALID, "a message that no version has written yet"),
    (F.NO_AUDIO, "Stream map '0:a:0' matches no streams.\nTo ignore this, add a trailing '?' to the map."),
    (F.NO_AUDIO, "Output file does not contain any stream"),
    (F.STORAGE_FULL, "av_interleaved_write_frame(): No space left on device"),
    (F.TOO_LARGE, "av_interleaved_write_frame(): File too large"),
    (F.TOOL_MISSING, "Unknown encoder 'libmp3lame'"),
    (F.TOOL_MISSING, "fd:: Protocol not found"),
    (F.TOOL_MISSING, "[libmp3lame @ 0x1] Cannot allocate memory"),
    (F.TOOL_MISSING, "not started: No such file or directory"),
    (F.TOOL_MISSING, "ffmpeg: error while loading shared libraries: libavdevice.so.59"),
]


@pytest.mark.parametrize(("code", "message"), FFMPEG)
def test_a_message_of_ffmpeg_gets_its_code(code: F, message: str) -> None:
    assert code_of_ffmpeg_message(f"status 1: {message}") is code
