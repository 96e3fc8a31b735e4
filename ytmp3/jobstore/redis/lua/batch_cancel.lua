#!lua flags=allow-oom
-- Record that the client has cancelled a batch, unless it has ended. ARGV: clock, batch
-- Returns its fields, none for an unknown id.

local id = ARGV[2]
local batch = batch_at(id)
if redis.call('EXISTS', batch) == 1 and redis.call('HEXISTS', batch, 'completed_at') == 0 then
  redis.call('HSETNX', batch, 'cancelled_at', seconds(clock()))
end
return redis.call('HGETALL', batch)
