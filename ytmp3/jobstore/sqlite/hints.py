"""The hints of a store that only one instance uses: there are none, because nobody else writes."""

from ytmp3.core.ids import ConversionId
from ytmp3.jobstore import OnHint


class NoHints:
    """Never gives a hint."""

    def start(self, on_hint: OnHint) -> None:
        """See the Protocol."""

    def watch(self, conversion_id: ConversionId) -> None:
        """See the Protocol."""

    def unwatch(self, conversion_id: ConversionId) -> None:
        """See the Protocol."""
