"""Error codes for the messages of ffmpeg. Pure."""

from typing import Final

from ytmp3.converter.classify import Table, compiled, first_match
from ytmp3.core.errors import FailureCode

_FFMPEG: Final[Table] = (
    (
        FailureCode.STORAGE_FULL,
        (r"no space left|disk quota|input/output error",),
    ),
    (
        FailureCode.TOO_LARGE,
        (r"file too large",),
    ),
    (
        FailureCode.NO_AUDIO,
        (r"matches no streams|does not contain any stream|no audio|output file is empty",),
    ),
    # The file's header makes ffmpeg allocate more memory than its limit. Valid audio files need far less.
    (FailureCode.MEDIA_INVALID, (r"error opening input: cannot allocate memory",)),
    (
        FailureCode.TOOL_MISSING,
        (
            r"unknown encoder|encoder not found|unrecognized option|option not found|protocol not found",
            r"unknown input format|not started|cannot allocate memory|resource temporarily unavailable",
            r"error while loading shared|requested output format .* is not",
        ),
    ),
    (
        FailureCode.MEDIA_INVALID,
        (
            r"invalid data|moov atom not found|could not find codec|error while decoding|decod|not on whitelist",
            r"whitelist|unspecified|invalid argument|ebml|header|end of file|conversion failed|error opening",
            r"error submitting|nothing was (?:written|encoded)|patch welcome|could not find",
        ),
    ),
)


_FFMPEG_PATTERNS: Final = compiled(_FFMPEG)


def code_of_ffmpeg_message(message: str) -> FailureCode:
    """Return the code for ffmpeg's error output. Unknown messages count as errors of the media, its only input."""
    return first_match(_FFMPEG_PATTERNS, message) or FailureCode.MEDIA_INVALID
