"""The shared job store: one Redis or Valkey for any number of instances. Every change is one Lua script.

    store     the JobStore: which script with which arguments, and what its reply means
      due       which conversions may be adopted, also when the server's clock is set
      records   hashes as values, and the names of keys
      scripts   reads the Lua files, runs them by their digest
        lua/      the scripts; shared.lua has the layout of the records
      link      the connections: timeouts, the circuit breaker, a share for handlers and one for workers

Why scripts: a change reads, judges and writes several records. As one script it is atomic, and costs one round trip. In
return the rules of `core/states` exist a second time, in Lua; the contract suite runs every test on both adapters.

Why shards: a Redis Cluster keeps a key on the node of its hash slot, and a script may use only keys of one slot. A
conversion, its jobs, its key's entry and the indexes that they are in begin with the same two digits, which are the
hash tag. Questions over all records (what is due, how many jobs) ask all 256 shards in one write.

Why the server's clock: a lease must run out at the same moment for its holder and for those who would take over. The
clocks of two machines may differ by more than a lease is long.

What a crash leaves. If an instance dies, its leases run out, and any other instance adopts its conversions. If Redis
dies, it has after its restart what its append-only file had: with `appendfsync everysec` a crash of the machine may
cost the last second, a crash of the process nothing. While it is away every call raises StoreDown within its timeout,
and the callers repeat what must not be lost. If the reply alone is lost, the script has run: the repetition finds its
traces and gets the first result.
"""

from ytmp3.jobstore.redis.store import RedisJobStore
from ytmp3.jobstore.settings import RedisSettings

__all__ = ["RedisJobStore", "RedisSettings"]
