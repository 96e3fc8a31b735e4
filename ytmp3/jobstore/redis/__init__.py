"""The shared job store: Redis or Valkey, every change one Lua script."""

from ytmp3.jobstore.redis.link import RedisSettings
from ytmp3.jobstore.redis.store import RedisJobStore

__all__ = ["RedisJobStore", "RedisSettings"]
