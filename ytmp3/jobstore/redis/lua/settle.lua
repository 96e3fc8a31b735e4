#!lua flags=allow-oom
-- Store the results of deliveries of one shard (webhook.settled).
-- ARGV: clock, then for each: delivery, token, state, delay, 1 if a request was made, status or '', reason or ''

local now = clock()

local function set_or_remove(key, field, value)
  if value == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, value) end
end

for i = 2, #ARGV, 7 do
  local id, token, state, delay = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local key = delivery_at(id)
  local known = redis.call('HMGET', key, 'state', 'token')
  -- webhook.accepts
  if known[1] == DELIVERY.PENDING and known[2] == token then
    local due = seconds(now + delay)
    redis.call('HINCRBY', key, 'token', 1)
    redis.call('HSET', key, 'state', state, 'due_at', due)
    set_or_remove(key, 'reason', ARGV[i + 6])
    if ARGV[i + 4] == '1' then
      redis.call('HINCRBY', key, 'attempts', 1)
      redis.call('HSET', key, 'attempted_at', seconds(now))
      set_or_remove(key, 'status', ARGV[i + 5])
    end
    if state == DELIVERY.PENDING then redis.call('ZADD', OUTBOX, due, id) else redis.call('ZREM', OUTBOX, id) end
  end
end
return 1
