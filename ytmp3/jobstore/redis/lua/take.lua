#!lua flags=allow-oom
-- Create the deliveries of ended conversions of one shard, and lease the deliveries that are due.
-- ARGV: clock, lease, the most deliveries, the most jobs whose deliveries are created
-- Returns the leased deliveries.

local lease, limit, jobs_left = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = clock()

for _, id in ipairs(redis.call('ZRANGEBYSCORE', OUTBOX, 0, 0, 'LIMIT', 0, jobs_left)) do
  local conversion = load(id)
  if conversion and jobs_left > 0 then
    local job_ids = redis.call('SPOP', hooked_of(id), jobs_left)
    for _, job_id in ipairs(job_ids) do announce_job(job_id, conversion.state, now) end
    jobs_left = jobs_left - #job_ids
  end
  if not conversion or redis.call('EXISTS', hooked_of(id)) == 0 then redis.call('ZREM', OUTBOX, id) end
end

local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', OUTBOX, '(0', seconds(now), 'LIMIT', 0, limit)) do
  if redis.call('EXISTS', delivery_at(id)) == 0 then
    -- The delivery has expired (its time to live is over).
    redis.call('ZREM', OUTBOX, id)
  else
    local due = seconds(now + lease)
    redis.call('HINCRBY', delivery_at(id), 'token', 1)
    redis.call('HSET', delivery_at(id), 'due_at', due)
    redis.call('ZADD', OUTBOX, due, id)
    taken[#taken + 1] = delivery_reply(id)
  end
end
return taken
