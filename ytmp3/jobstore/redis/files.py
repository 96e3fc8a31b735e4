"""Looks up the conversions to which track files belong.

The name of a track contains the id of its conversion, and the id contains its shard. So each file is one lookup by key,
and no index by file name is needed, which every script that ends a conversion would have to maintain.

The recorded name is compared with the given one. An attempt that lost its lease after publishing leaves a second file
of the same conversion; that file is not the track, although its conversion exists.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from ytmp3.core.job import Track, conversion_id_of
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Argument, Reply
from ytmp3.jobstore.redis.records import readable

Read = Callable[[Sequence[Sequence[Argument]]], Awaitable[Sequence[Reply]]]
"""Sends commands in one round trip, and returns their replies."""

FILES_AT_ONCE: Final = 500
"""Most files that `known_files` looks up in one round trip."""


async def known_files(read: Read, keys: Keys, file_names: Sequence[str]) -> frozenset[str]:
    """See `JobStore.known_files`. Only the field `file` is read, because only done conversions have it."""
    known: set[str] = set()
    for start in range(0, len(file_names), FILES_AT_ONCE):
        batch = [(name, conversion_id_of(name)) for name in file_names[start : start + FILES_AT_ONCE]]
        asked = [(name, conversion_id) for name, conversion_id in batch if conversion_id is not None]
        replies = await read([("HGET", keys.conversion_at(some_id), "file") for _, some_id in asked])
        known.update(name for (name, _), reply in zip(asked, replies, strict=True) if reply == name.encode())
    return frozenset(known)


async def tracks(read: Read, keys: Keys, file_names: Sequence[str]) -> Mapping[str, Track]:
    """See `JobStore.tracks`. Only done conversions have a track."""
    ids = [some_id for name in file_names if (some_id := conversion_id_of(name)) is not None]
    replies = await read([("HGET", keys.conversion_at(some_id), "track") for some_id in ids])
    with readable():
        found = [msgspec.json.decode(reply, type=Track) for reply in replies if reply is not None]
    return {track.file_name: track for track in found if track.file_name in file_names}
