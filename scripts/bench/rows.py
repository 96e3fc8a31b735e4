"""The measurements, by the names that `--rows` accepts. One measurement may give several rows."""

from collections.abc import Awaitable, Callable

from scripts.bench.batches import archives, batches
from scripts.bench.challenges import challenges
from scripts.bench.conversions import clips, copies, javascript_clips, javascript_songs, one_clip, songs, start
from scripts.bench.fairness import fairness
from scripts.bench.growth import growth
from scripts.bench.identity_states import identity_states
from scripts.bench.long_tracks import long_tracks
from scripts.bench.loudness import loudness
from scripts.bench.replicas import replica_reads
from scripts.bench.requests import downloads, posts_at_rest, redis_commands, status_peak, under_load
from scripts.bench.services import Bench, Row
from scripts.bench.sound import chosen_tags, first_sound
from scripts.bench.streams import event_streams, event_streams_across

ROWS: dict[str, Callable[[Bench], Awaitable[list[Row]]]] = {
    "one_clip": one_clip,
    "start": start,
    "status_peak": status_peak,
    "posts_at_rest": posts_at_rest,
    "under_load": under_load,
    "event_streams": event_streams,
    "event_streams_across": event_streams_across,
    "batches": batches,
    "archives": archives,
    "downloads": downloads,
    "redis_commands": redis_commands,
    "replica_reads": replica_reads,
    "identity_states": identity_states,
    "growth": growth,
    "clips": clips,
    "songs": songs,
    "copies": copies,
    "long_tracks": long_tracks,
    "javascript_clips": javascript_clips,
    "javascript_songs": javascript_songs,
    "challenges": challenges,
    "first_sound": first_sound,
    "chosen_tags": chosen_tags,
    "loudness": loudness,
    "fairness": fairness,
}
