"""The webhook targets of a new job or batch: the endpoints of its client, and the URL that its request names."""

from ytmp3.core.client import Client
from ytmp3.core.webhook import WebhookTarget
from ytmp3.http.errors import WebhookRefused
from ytmp3.webhooks.endpoints import Endpoints, UrlRefused


class WebhookTargets:
    """Finds the targets, for all routes that create jobs or batches."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    def of(self, client: Client, url: str | None = None) -> tuple[WebhookTarget, ...]:
        """Return the targets of a client's new job or batch. `url` is the address that its request names.

        Raises:
            WebhookRefused: the client must not name an address, or not this one.
        """
        try:
            return self._endpoints.targets(client.owner, url)
        except UrlRefused as error:
            raise WebhookRefused(f"Not accepted as `webhook`: {error}.") from None
