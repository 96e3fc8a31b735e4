"""The errors of a file that is not one whole, clean track."""


class BrokenError(Exception):
    """The file is not one clean track of its format. The text says at which byte, or why."""


class CutError(BrokenError):
    """The track is clean, but its end is missing."""
