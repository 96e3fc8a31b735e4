"""Which of several errors of one conversion is its cause, and the log lines of a failed attempt."""

import logging

from ytmp3.converter.youtube.metadata import without_queries
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.ids import VideoId

logger = logging.getLogger(__name__)


def first_cause(errors: list[BaseException]) -> BaseException:
    """Return the error to report. A broken download makes the encoder fail too, so its error has precedence."""
    return next((error for error in errors if not _is_about_media(error)), errors[0])


def _is_about_media(error: BaseException) -> bool:
    return isinstance(error, ConversionError) and error.code is FailureCode.MEDIA_INVALID


def log_failure(video_id: VideoId, error: ConversionError, tool_log: str) -> None:
    """Log a failed attempt, with the end of yt-dlp's output."""
    fields = {"video_id": video_id, "code": error.code.value, "reason": without_queries(error.reason)}
    logger.debug("attempt failed", extra=fields)
    if tool_log:
        logger.info("yt-dlp output", extra={"video_id": video_id, "tool_log": without_queries(tool_log)})
