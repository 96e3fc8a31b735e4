"""The identities in use. `identities_file` reads them, and `engine.identities` chooses one for each conversion."""

from collections.abc import Sequence
from typing import Final

from ytmp3.converter.settings import Egress, Identity, ToolSettings

ONLY_NAME: Final = "default"
"""The name of the identity that the settings make where there is no IDENTITIES_FILE."""


def only_identity(settings: ToolSettings) -> Identity:
    """Return the identity of EGRESS_PROXY, EGRESS_SOURCE_ADDRESS, EGRESS_FAMILY and COOKIES_FILE."""
    return Identity(
        name=ONLY_NAME,
        egress=Egress(
            proxy=settings.egress_proxy, family=settings.egress_family, source_address=settings.egress_source_address
        ),
        cookies_file=settings.cookies_file,
        videos_per_hour=settings.videos_per_hour,
        has_po_tokens=True,
    )


class IdentityBook:
    """The identities in use, by name. They can be replaced while the service runs (SIGHUP)."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        self.replace(identities)

    def replace(self, identities: Sequence[Identity]) -> None:
        """Replace the identities. Running conversions keep theirs."""
        self.first = identities[0]
        """The identity that reads playlists."""
        self._by_name = {identity.name: identity for identity in identities}

    def of(self, name: str) -> Identity:
        """Return the identity with this name; the first one if it was removed after it had been chosen."""
        return self._by_name.get(name, self.first)
