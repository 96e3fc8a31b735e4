"""The shared job store: Redis, Valkey or a Redis Cluster, for any number of instances. Every change is one Lua script.

    store     the JobStore: chooses scripts and arguments, and interprets the replies
      shards    questions to all shards, and scripts on several of them
      due       finds the conversions that may be adopted, also when a server's clock is changed
      records   converts hashes to values
      keys      the names of keys, with the prefix of the installation
      indexes   finds indexes that another program has overwritten, and rebuilds them
      scripts   reads the Lua files, and runs them by their digests
      values    small values that all instances share
      clients   lists of jobs, idempotency keys and feeds
      hints     publish/subscribe: which records other instances have written
      server    checks the servers; recognises a Sentinel, and a node of a cluster
        lua/      the scripts; shared.lua describes the layout of the records
      nodes     the interface: which server has which shard; one server that has all of them
      cluster   the nodes of a Redis Cluster: follows moved slots and promoted replicas
      slots     the map of a cluster's slots
      replicas  reads of the status of jobs from replicas of a cluster
      link      the connections to one server: timeouts, the circuit breaker, shares for handlers and for workers
      addresses how to connect: the options in REDIS_ADDR

Why scripts: a change reads, checks and writes several records. As one script it is atomic, and costs one round trip.
The price is that the rules of `core/states` exist a second time, in Lua. The contract suite runs every test on both
adapters.

Why shards: a Redis Cluster keeps a key on the node of its hash slot, and a script may use only keys of one slot. The
keys of a conversion, its jobs, its deduplication key and their indexes contain the same two digits as hash tag, so they
are in one slot. Queries over all records (due conversions, counts) read all 256 shards in one write.

Why the server's clock: a lease must run out at the same moment for its holder and for the instances that may adopt the
conversion. The clocks of two machines may differ by more than the length of a lease.

State after a crash. If an instance dies, its leases run out, and another instance adopts its conversions. If Redis
dies, it restarts with the content of its append-only file: with `appendfsync everysec`, a crash of the machine may lose
the last second, and a crash of the process loses nothing. While Redis is down, every call raises StoreDown within its
timeout, and callers retry the writes that must not be lost. If only the reply is lost, the script has run. The repeated
call recognises this from the record, and returns the first result.
"""

from ytmp3.jobstore.redis.store import RedisJobStore
from ytmp3.jobstore.settings import RedisSettings

__all__ = ["RedisJobStore", "RedisSettings"]
