#!lua flags=allow-oom
-- Remove ended batches whose retention is over. ARGV: clock, the most batches. Returns their number.

local expired = redis.call('ZRANGEBYSCORE', ENDED, '-inf', seconds(clock()), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(expired) do
  local webhooks = redis.call('HGET', batch_at(id), 'webhooks')
  if webhooks then forget_deliveries(BATCH_PREFIX .. id, webhooks) end
  redis.call('DEL', batch_at(id), items_at(id))
  redis.call('ZREM', ENDED, id)
end
return #expired
