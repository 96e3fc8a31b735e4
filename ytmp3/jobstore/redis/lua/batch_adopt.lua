#!lua flags=allow-oom
-- Adopt batches that are due. ARGV: clock, lease, instance, the most batches. Returns the adopted batches.
--
-- A lease that ends later than the longest possible lease was written before the clock was set back. If its holder is
-- alive, it loses the batch to the caller, which does no harm.

local LONGEST_LEASE_SECONDS = 3600
local lease, instance, limit = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local now = clock()
local due = redis.call('ZRANGEBYSCORE', LIVE, '-inf', seconds(now), 'LIMIT', 0, limit)
local left_behind = redis.call('ZRANGEBYSCORE', LIVE, seconds(now + LONGEST_LEASE_SECONDS + 1), '+inf', 'LIMIT', 0,
  limit - #due)
for _, id in ipairs(left_behind) do due[#due + 1] = id end

local adopted = {}
for _, id in ipairs(due) do
  if redis.call('EXISTS', batch_at(id)) == 1 then
    hold_batch(id, instance, now, lease)
    adopted[#adopted + 1] = redis.call('HGETALL', batch_at(id))
  else
    -- The server has evicted the record.
    redis.call('ZREM', LIVE, id)
  end
end
return adopted
