"""The shared job store: Redis or Valkey, every change one Lua script."""

from ytmp3.jobstore.redis.store import RedisJobStore
from ytmp3.jobstore.settings import RedisSettings

__all__ = ["RedisJobStore", "RedisSettings"]
