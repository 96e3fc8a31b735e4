"""The settings of webhooks. Imports only light modules, because `config` loads this one."""

import ipaddress
from pathlib import Path

from msgspec import Struct

from ytmp3.core.client import Network


class PrivateHosts(Struct, frozen=True, kw_only=True):
    """WEBHOOK_PRIVATE_HOSTS: the hosts that messages may be sent to although their addresses are private."""

    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def allow(self, host: str) -> bool:
        """Return whether the host of a URL is listed: by its name, or as a literal address in a listed network."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host.lower().rstrip(".") in self.names
        return any(address in network for network in self.networks)


class WebhookSettings(Struct, frozen=True, kw_only=True):
    """The file of the endpoints, and the private hosts that they may use."""

    file: Path | None = None
    """WEBHOOKS_FILE; None: no message is ever sent."""
    private_hosts: PrivateHosts = PrivateHosts()
    """WEBHOOK_PRIVATE_HOSTS."""
