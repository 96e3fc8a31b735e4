"""What breaks in an installation, and how it heals. Each fault begins and ends in a healthy installation."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from scripts.cluster_chaos.installation import Installation
from scripts.cluster_chaos.load import Load
from scripts.cluster_chaos.nodes import (
    ask,
    is_primary,
    jobs_at,
    primaries,
    slot_of_job,
    slots_at,
    wait_until_healed,
    wait_until_promoted,
)
from tests.stand.valkey import Valkey
from ytmp3.core.ids import JobId

LOST_SECONDS: Final = 1.0
"""The last writes of a primary that its replica does not get, in seconds."""
S3_DOWN_SECONDS: Final = 7.0
"""Longer than the check of the disk may take, so that instances notice."""
AFTER_DEATH_SECONDS: Final = 0.5
"""How long a replica has for what its primary has sent it, before its jobs are read. It is promoted much later."""
SLOTS_MOVED: Final = 3
"""Slots that each way moves in a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What a fault may have taken from the records."""

    slots: frozenset[int] = frozenset()
    """Those of a primary that was replaced without having been asked."""
    held: frozenset[JobId] = frozenset()
    """The jobs that its replica had when it could no longer get any."""
    promoted_at: float = 0.0
    """When the replica was in use, by the monotonic clock."""

    def explains(self, job_id: str, sent_at: float) -> bool:
        """Return whether Redis itself has lost an acknowledged job: its replica never had it."""
        return slot_of_job(job_id) in self.slots and job_id not in self.held and sent_at < self.promoted_at

    def may_change(self, job_id: str) -> bool:
        """Return whether Redis itself may have lost a later write to a job."""
        return slot_of_job(job_id) in self.slots


UNHARMED: Final = Harm()


async def _replaced(its: Installation, victim: Valkey, slots: frozenset[int]) -> Harm:
    """Read what the replica of a dead or frozen primary has, and wait until it is promoted."""
    replica = its.nodes.replica_of(victim)
    await asyncio.sleep(AFTER_DEATH_SECONDS)
    held = await asyncio.to_thread(jobs_at, replica)
    assert not await asyncio.to_thread(is_primary, replica), "the jobs were read too late: the replica is promoted"
    return Harm(slots=slots, held=held, promoted_at=await asyncio.to_thread(wait_until_promoted, replica))


async def _victim(its: Installation, load: Load) -> tuple[Valkey, frozenset[int]]:
    victim = load.chance.choice(await asyncio.to_thread(primaries, its.nodes))
    return victim, await asyncio.to_thread(slots_at, victim)


async def _killed(its: Installation, load: Load, victim: Valkey, slots: frozenset[int]) -> Harm:
    """kill -9 a primary, wait until its replica has taken over, and start it again: it comes back as a replica."""
    victim.stop()
    harm = await _replaced(its, victim, slots)
    await load.more(5)
    await asyncio.to_thread(victim.start)
    return harm


async def kill_primary(its: Installation, load: Load, _: int) -> Harm:
    """kill -9 a primary. Its replica takes over, and it comes back as a replica."""
    victim, slots = await _victim(its, load)
    return await _killed(its, load, victim, slots)


async def freeze_primary(its: Installation, load: Load, _: int) -> Harm:
    """SIGSTOP a primary for longer than the node timeout, then SIGCONT."""
    victim, slots = await _victim(its, load)
    victim.freeze()
    try:
        harm = await _replaced(its, victim, slots)
        await load.more(5)
    finally:
        victim.thaw()
    return harm


async def promote_by_hand(its: Installation, load: Load, _: int) -> Harm:
    """CLUSTER FAILOVER at a replica: the primary waits for it, so nothing may be lost."""
    victim, _slots = await _victim(its, load)
    replica = its.nodes.replica_of(victim)
    await asyncio.to_thread(ask, replica, "CLUSTER", "FAILOVER")
    await asyncio.to_thread(wait_until_promoted, replica)
    await load.more(5)
    return UNHARMED


async def move_slots(its: Installation, load: Load, _: int) -> Harm:
    """Move slots of running jobs to other primaries, some in one step, and some key by key."""
    nodes = its.nodes
    recent = list(dict.fromkeys(slot_of_job(job_id) for job_id in reversed(load.accepted)))

    def move(slot: int, *, is_atomic: bool) -> None:
        owners = primaries(nodes)
        (source,) = [node for node in owners if slot in slots_at(node)]
        target = load.chance.choice([node for node in owners if node is not source])
        if is_atomic:
            nodes.move_at_once(slot, source, target)
            return
        nodes.begin_to_move(slot, source, target)
        while nodes.move_keys(slot, source, target, most=3):
            # Calls find the slot half moved.
            time.sleep(0.05)
        nodes.end_move(slot, source, target)

    for number, slot in enumerate(recent[: 2 * SLOTS_MOVED]):
        await asyncio.to_thread(move, slot, is_atomic=number % 2 == 0)
        await load.more(1)
    return UNHARMED


async def partition(its: Installation, load: Load, _: int) -> Harm:
    """Cut a primary off from the instances and from all other nodes: connections hang, then go on."""
    victim, slots = await _victim(its, load)
    its.network.cut_off(its.nodes.nodes.index(victim))
    try:
        harm = await _replaced(its, victim, slots)
        await load.more(5)
    finally:
        its.network.cut_off()
    return harm


async def lose_last_second(its: Installation, load: Load, _: int) -> Harm:
    """Kill a primary whose replica has not got its last second of writes: Redis itself loses them."""
    victim, slots = await _victim(its, load)
    await asyncio.to_thread(ask, victim, "ACL", "SETUSER", "default", "-psync", "-sync")
    await asyncio.to_thread(ask, victim, "CLIENT", "KILL", "TYPE", "replica")
    await asyncio.sleep(LOST_SECONDS)
    return await _killed(its, load, victim, slots)


async def kill_instance(its: Installation, load: Load, _: int) -> Harm:
    """kill -9 an instance that converts, and start it again."""
    victim = load.chance.choice(its.instances)
    await victim.stop(signal.SIGKILL)
    await load.more(5)
    await victim.start()
    return UNHARMED


async def stop_s3(its: Installation, load: Load, number: int) -> Harm:
    """Freeze the object store for some seconds (even rounds), or kill it and start it again (odd rounds)."""
    if number % 2:
        await asyncio.to_thread(its.s3.kill)
        await asyncio.sleep(load.chance.uniform(0.0, S3_DOWN_SECONDS))
        await asyncio.to_thread(its.s3.start)
        return UNHARMED
    its.s3.freeze()
    try:
        await asyncio.sleep(S3_DOWN_SECONDS)
    finally:
        its.s3.thaw()
    return UNHARMED


FAULTS: Final[Mapping[str, Callable[[Installation, Load, int], Awaitable[Harm]]]] = {
    "kill-primary": kill_primary,
    "freeze-primary": freeze_primary,
    "promote": promote_by_hand,
    "move-slots": move_slots,
    "partition": partition,
    "lose-second": lose_last_second,
    "kill-instance": kill_instance,
    "stop-s3": stop_s3,
}
"""By the name on the command line."""
PROXIED: Final = frozenset({"partition"})
"""The faults that need the network of proxies."""


async def until_healed(its: Installation) -> None:
    """Return once the cluster is whole, and every instance is ready."""
    await asyncio.to_thread(wait_until_healed, its.nodes)
    for service in its.instances:
        await service.until_health(200)
