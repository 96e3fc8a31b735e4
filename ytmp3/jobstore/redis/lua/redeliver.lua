#!lua flags=allow-oom
-- Make a delivery due at once (webhook.redelivered). ARGV: clock, delivery. Returns it; false for an unknown id.

local id = ARGV[2]
if redis.call('EXISTS', delivery_at(id)) == 0 then return false end
local due = seconds(clock())
redis.call('HINCRBY', delivery_at(id), 'token', 1)
redis.call('HSET', delivery_at(id), 'state', DELIVERY.PENDING, 'attempts', 0, 'due_at', due)
redis.call('ZADD', OUTBOX, due, id)
return delivery_reply(id)
