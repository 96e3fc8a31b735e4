#!lua flags=allow-oom
-- Remove ended batches whose retention is over. ARGV: clock, the most batches. Returns their number.

local expired = redis.call('ZRANGEBYSCORE', ENDED, '-inf', seconds(clock()), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(expired) do
  redis.call('DEL', batch_at(id), items_at(id))
  redis.call('ZREM', ENDED, id)
end
return #expired
