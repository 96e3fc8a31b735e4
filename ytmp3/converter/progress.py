"""The progress of a conversion over its stages, as one number from 0 to 1."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from ytmp3.core.job import Metadata, Report, Stage

EXTRACTED: Final = 0.05
DOWNLOADED: Final = 0.30
ENCODED: Final = 0.60
"""Shares of extraction, download and encoding in the whole progress. The rest is for verification and publishing."""

SMALLEST_STEP: Final = 0.005
"""Smallest increase of the progress that is reported."""


class Progress:
    """Combines the progress of the stages into reports whose progress never falls. One object for each conversion."""

    def __init__(self, on_progress: Callable[[Report], None]) -> None:
        self._on_progress = on_progress
        self._stage = Stage.EXTRACTING
        self._reported = 0.0
        self.stage_seconds: dict[Stage, float] = {}
        """Wall time spent in each stage so far."""

    def extracted(self, metadata: Metadata) -> None:
        """Report that the extraction is over."""
        self._stage = Stage.DOWNLOADING
        self._reported = max(self._reported, EXTRACTED)  # after a first try with another format, it is higher
        self._on_progress(Report(stage=self._stage, progress=self._reported, metadata=metadata))

    def moved(self, stage: Stage, *, downloaded: float, encoded: float) -> None:
        """Report the progress of the download and of the encoding. Both are fractions from 0 to 1."""
        progress = max(self._reported, EXTRACTED + DOWNLOADED * downloaded + ENCODED * min(encoded, 1.0))
        if stage is self._stage and progress - self._reported < SMALLEST_STEP:
            return
        self._stage, self._reported = stage, progress
        self._on_progress(Report(stage=stage, progress=progress))

    @contextlib.contextmanager
    def timing(self, stage: Stage) -> Iterator[None]:
        """Add the time spent inside the `with` block to a stage."""
        begun_at = time.monotonic()
        try:
            yield
        finally:
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + time.monotonic() - begun_at
