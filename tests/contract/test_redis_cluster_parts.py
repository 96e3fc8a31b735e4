"""While a primary of a Redis Cluster does not reply: what the others have is read and written, the rest is named."""

import contextlib
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from tests.contract.cluster_nodes import client_listed_at, submissions_by_primary
from tests.contract.harness import Ids, submitted
from tests.contract.redis_servers import ON_CLUSTER, MakeStore, until_it_works
from tests.stand.redis_cluster import RedisCluster
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.core.errors import RenewalsMissed, StoreDown
from ytmp3.core.job import Lease
from ytmp3.jobstore import Renewal
from ytmp3.jobstore.found import Found
from ytmp3.jobstore.redis import RedisJobStore
from ytmp3.jobstore.settings import RedisTimeouts

pytestmark = ON_CLUSTER

QUICK = RedisTimeouts(handler_seconds=0.3, worker_seconds=0.3)


@contextlib.contextmanager
def frozen(node: Valkey) -> Iterator[None]:
    node.freeze()
    try:
        yield
    finally:
        node.thaw()


async def renewed(store: RedisJobStore, leases: list[Lease]) -> tuple[frozenset[str], frozenset[str]]:
    """Renew, and return the ids of the conversions whose lease is lost, and of those that were missed."""
    try:
        return await store.renew([Renewal(lease=lease, progress=0.5) for lease in leases]), frozenset()
    except RenewalsMissed as error:
        return error.lost, error.missed


async def test_without_one_primary_the_records_of_the_others_are_used_and_the_rest_is_named(
    empty_cluster: RedisCluster, make_store: MakeStore, ids: Ids
) -> None:
    nodes = empty_cluster
    store, patient = make_store(nodes.address, timeouts=QUICK), make_store(nodes.address)
    by_node = {node: some[:5] for node, some in submissions_by_primary(nodes, ids).items()}
    victim, elsewhere, _ = by_node
    client = client_listed_at(nodes, elsewhere)
    leases: dict[Valkey, list[Lease]] = {node: [] for node in by_node}
    for node, some in by_node.items():
        for submission in some:
            ticket = (await submitted(patient, replace(submission, client=client, is_listed=True))).ticket
            leases[node].append(ticket.conversion.lease)
    at = {node: {submission.job_id for submission in some} for node, some in by_node.items()}
    asked = sorted(set().union(*at.values()))
    cancelled = by_node[elsewhere][0].job_id
    await patient.cancel(cancelled)
    await until_it_works(lambda: store.get_many(asked))

    def is_without_the_victim(found: Found) -> bool:
        # On a busy machine, another node may be late once too.
        assert found.unread >= at[victim]
        assert found.tickets.keys() == set(asked) - found.unread
        return found.unread == at[victim]

    async def many_are_read() -> bool:
        return is_without_the_victim(await store.get_many(asked))

    async def list_is_read() -> bool:
        with contextlib.suppress(StoreDown):
            return is_without_the_victim(await store.clients.jobs_of(client, before=None, limit=100))
        return False

    async def jobs_are_counted() -> bool:
        counts = await store.counts()
        assert not counts.is_complete
        return (counts.pending, counts.cancelled) == (9, 1)

    async def leases_are_renewed() -> bool:
        lost, missed = await renewed(store, [lease for some in leases.values() for lease in some])
        expected = {lease.conversion_id for lease in leases[victim]}
        assert missed >= expected
        return missed == expected and lost == {leases[elsewhere][0].conversion_id}

    with frozen(victim):
        for check in (many_are_read, list_is_read, jobs_are_counted, leases_are_renewed):
            await until(check, check.__name__)
        with pytest.raises(StoreDown):
            await store.get_many(sorted(at[victim]))
        with pytest.raises(StoreDown) as failure:
            await store.renew([Renewal(lease=lease) for lease in leases[victim]])
        assert not isinstance(failure.value, RenewalsMissed), "nothing at all was renewed"

    async def all_is_there() -> bool:
        with contextlib.suppress(StoreDown):
            listed = await store.clients.jobs_of(client, before=None, limit=100)
            return set(listed.tickets) == set(asked) and (await store.counts()).is_complete
        return False

    await until(all_is_there, "nothing was removed from the list of the client")
