"""Which node of a Redis Cluster has the records of a submission."""

from tests.contract.harness import Ids
from tests.stand.redis_cluster import RedisCluster
from tests.stand.valkey import Valkey
from ytmp3.core.ids import ClientId, shard_of
from ytmp3.jobstore import Submission
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.slots import slots_of


def slot_of(submission: Submission) -> int:
    (slot,) = slots_of([Keys().root_of(submission.job_id)]).values()
    return slot


def submissions_by_primary(nodes: RedisCluster, ids: Ids) -> dict[Valkey, list[Submission]]:
    """Return submissions of different videos, by the primary that gets them: at least five for each."""
    found: dict[Valkey, list[Submission]] = {node: [] for node in nodes.nodes[:3]}
    owners = {slot: nodes.owner_of(slot) for slot in {slot_of(ids.submission(video)) for video in range(60)}}
    for video in range(60):
        submission = ids.submission(video)
        found[owners[slot_of(submission)]].append(submission)
    assert min(map(len, found.values())) >= 5
    return found


def client_listed_at(nodes: RedisCluster, node: Valkey) -> ClientId:
    """Return the owner of an API key whose list of jobs is on a node."""
    clients = (ClientId(f"key:owner-{number}") for number in range(1000))
    roots = {client: Keys().root_of(shard_of(client)) for client in clients}
    slots = slots_of(roots.values())
    return next(client for client, root in roots.items() if nodes.owner_of(slots[root]) is node)
