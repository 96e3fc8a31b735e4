"""Which of several errors of one conversion is its cause. Pure."""

from ytmp3.core.errors import ConversionError, FailureCode


def first_cause(errors: list[BaseException]) -> BaseException:
    """Return the error to report. A broken download makes the encoder fail too, so its error has precedence."""
    return next((error for error in errors if not _is_about_media(error)), errors[0])


def _is_about_media(error: BaseException) -> bool:
    return isinstance(error, ConversionError) and error.code is FailureCode.MEDIA_INVALID
