"""The names of the Redis keys of one installation. `lua/shared.lua` makes the names below a root."""

from typing import Final

from ytmp3.core.ids import ConversionId
from ytmp3.core.webhook import BATCH_PREFIX

SHARD_CHARACTERS: Final = 2
"""Number of characters of the shard at the beginning of each id (`core.ids.shard_of`)."""
SHARDS: Final = tuple(f"{shard:02x}" for shard in range(256))


class Keys:
    """Makes the names. With a prefix (`REDIS_PREFIX`), several installations can use one database.

    The prefix comes before everything else, and contains no braces: so it changes no hash tag, and an ACL such as
    `~PREFIX:*` covers all keys and channels. Without a prefix, the names are those of earlier versions.
    """

    def __init__(self, prefix: str = "") -> None:
        self._start = f"{prefix}:ytmp3:" if prefix else "ytmp3:"
        self.batches = f"{self._start}{{batches}}"
        """The root of all keys of batches, and of the webhook messages about them."""
        self.roots = tuple(map(self.root_of, SHARDS))
        """The roots of all shards."""

    def root_of(self, some_id: str) -> str:
        """Return the beginning of all keys in the shard of a job, a conversion or a batch: the shard's root.

        The braces make the shard a hash tag: Redis Cluster keeps all keys with the same tag on the same node, so one
        script may use any of them (the section "Hash tags" of the Redis Cluster specification).
        """
        if some_id.startswith(BATCH_PREFIX):
            return self.batches
        return f"{self._start}{{{some_id[:SHARD_CHARACTERS]}}}"

    def conversion_at(self, conversion_id: ConversionId) -> str:
        """Return the key of a conversion's hash."""
        return f"{self.root_of(conversion_id)}:c:{conversion_id}"

    def channel_of(self, conversion_id: ConversionId) -> str:
        """Return the channel of the hints about a conversion."""
        return f"{self.root_of(conversion_id)}:w:{conversion_id}"

    @property
    def shelf(self) -> str:
        """The key of the mark of the folder of tracks (`JobStore.agrees_on_shelf`)."""
        return f"{self.roots[0]}:shelf"

    @staticmethod
    def probe_of(root: str) -> str:
        """Return a key that never exists: deleting it is a write without an effect."""
        return f"{root}:probe"
