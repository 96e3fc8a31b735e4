"""What a client asks for with a batch, besides its items; and the record that is stored for it.

An order is the same for links, a playlist and the chapters of a video; only the items differ. They are known at once
for links, and read by the feeder for the others. So a batch of a playlist is stored without items, and its response
does not wait for YouTube.
"""

import secrets
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ytmp3.core.batch import Item
from ytmp3.core.client import Client
from ytmp3.core.ids import new_batch_id
from ytmp3.core.recipe import Recipe
from ytmp3.core.tag_edits import BatchTags
from ytmp3.core.webhook import WebhookTarget
from ytmp3.jobstore.batches import NewBatch

ID_BYTES: Final = 17
"""Random bytes in the id of a batch. It gives access to the batch, so it must not be guessable."""


class BatchOrder(Struct, frozen=True, kw_only=True):
    """What a client wants for all items of a batch."""

    recipe: Recipe
    webhooks: tuple[WebhookTarget, ...] = ()
    """The targets that get a message at the end of the batch."""
    tags: BatchTags | None = None
    """The tags for all tracks; None if the client has chosen none."""

    def new_batch(
        self,
        client: Client,
        *,
        marks: str = "",
        items: Sequence[Item] = (),
        playlist: str | None = None,
        is_split: bool = False,
    ) -> NewBatch:
        """Return the record of a batch with a new random id, which no client can guess, as for jobs.

        Either it has items with their marks, or the address of the playlist, or of the video to split, that has them.
        """
        return NewBatch(
            batch_id=new_batch_id(secrets.token_bytes(ID_BYTES)),
            client=client.owner,
            recipe=self.recipe,
            marks=marks,
            items=items,
            webhooks=self.webhooks,
            playlist=playlist,
            is_split=is_split,
            tags=self.tags,
        )
