#!lua flags=allow-oom
-- Replace the marks of a batch and extend its lease, or end it.
-- ARGV: clock, lease, batch, token, holder, marks, 1 if it ends; and, once its playlist has been read, its items as
-- JSON, then names and values of further fields. Returns the batch; false if the lease is lost.

local lease, id, token, holder, marks, is_ended = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7] == '1'
local now = clock()
local batch = batch_at(id)
local stored = redis.call('HMGET', batch, 'token', 'holder', 'completed_at', 'marks', 'client', 'retention_seconds',
  'webhooks', 'cancelled_at')
if stored[1] ~= token then return false end
-- A repeated call: the reply to the first one was lost.
if stored[3] and is_ended and stored[4] == marks then return redis.call('HGETALL', batch) end
if stored[2] ~= holder then return false end

if ARGV[8] then
  redis.call('SET', items_at(id), ARGV[8])
  redis.call('HSET', batch, unpack(ARGV, 9))
end
if is_ended then
  local expires = now + tonumber(stored[6])
  redis.call('HSET', batch, 'marks', marks, 'completed_at', seconds(now), 'expires_at', seconds(expires))
  redis.call('HDEL', batch, 'holder')
  redis.call('ZREM', LIVE, id)
  redis.call('ZADD', ENDED, seconds(expires), id)
  if redis.call('HINCRBY', BATCHES_OF, stored[5], -1) <= 0 then redis.call('HDEL', BATCHES_OF, stored[5]) end
  local ttl = milliseconds(tonumber(stored[6]) + TTL_MARGIN_SECONDS)
  redis.call('PEXPIRE', batch, ttl)
  redis.call('PEXPIRE', items_at(id), ttl)
  if stored[7] and not stored[8] then announce(BATCH_PREFIX .. id, BATCH_COMPLETED, stored[7], now, tonumber(ttl)) end
else
  redis.call('HSET', batch, 'marks', marks, 'due_at', seconds(now + lease))
  redis.call('ZADD', LIVE, seconds(now + lease), id)
end
return redis.call('HGETALL', batch)
