"""The progress of a conversion over its stages."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from ytmp3.core.job import Metadata, Report, Stage

EXTRACTED: Final = 0.05


DOWNLOADED: Final = 0.30


ENCODED: Final = 0.60
"""Shares of the progress; the rest is verification, and publishing by the caller."""


LEAST_NEWS: Final = 0.005


class Progress:
    """Turns what the stages know into reports whose progress never falls."""

    def __init__(self, report: Callable[[Report], None]) -> None:
        self._report = report
        self._stage = Stage.EXTRACTING
        self._said = 0.0
        self.stage_seconds: dict[Stage, float] = {}

    def extracted(self, metadata: Metadata) -> None:
        """The video is known."""
        self._stage = Stage.DOWNLOADING
        self._said = EXTRACTED
        self._report(Report(stage=self._stage, progress=self._said, metadata=metadata))

    def moved(self, stage: Stage, *, downloaded: float, encoded: float) -> None:
        """Bytes have arrived or sound has been encoded; both fractions are 0 to 1."""
        progress = max(self._said, EXTRACTED + DOWNLOADED * downloaded + ENCODED * min(encoded, 1.0))
        if stage is self._stage and progress - self._said < LEAST_NEWS:
            return
        self._stage, self._said = stage, progress
        self._report(Report(stage=stage, progress=progress))

    @contextlib.contextmanager
    def timing(self, stage: Stage) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        begun_at = time.monotonic()
        try:
            yield
        finally:
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + time.monotonic() - begun_at
