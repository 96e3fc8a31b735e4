"""The identities in use. `identities_file` reads them, and `engine.identities` chooses one for each conversion."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ytmp3.converter import ToolCheck
from ytmp3.converter.accounts import Account
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

    def __init__(self, identities: Sequence[Identity], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self.replace(identities)

    def replace(self, identities: Sequence[Identity]) -> None:
        """Replace the identities. Running conversions keep theirs."""
        self.first = identities[0]
        """The identity that reads playlists."""
        self._by_name = {identity.name: identity for identity in identities}
        accounts: dict[str, Account] = {}
        for identity in identities:
            if (path := identity.cookies_file) is not None:
                account = self._accounts.get(identity.name)
                if account is None or account.path != path:
                    account = Account(identity.name, path, self._clock)
                accounts[identity.name] = account
        # Replaced as a whole, because threads read it.
        self._accounts = accounts

    def of(self, name: str) -> Identity:
        """Return the identity with this name; the first one if it was removed after it had been chosen."""
        return self._by_name.get(name, self.first)

    def account_of(self, identity: Identity) -> Account | None:
        """Return the account whose cookies an identity has; None: it has none."""
        return self._accounts.get(identity.name)

    def refused_cookies(self) -> Mapping[str, int]:
        """Return how many conversions had their cookies refused, by identity."""
        return {name: account.refusals for name, account in self._accounts.items()}

    def check_cookies(self) -> ToolCheck | None:
        """Return the state of the cookies; None: there are none. Never a reason to be unready. Blocking."""
        states = [f"{name}: {account.cookies.state()}" for name, account in self._accounts.items()]
        return ToolCheck(name="cookies", ok=True, version=None, detail="; ".join(states)) if states else None
