#!lua flags=allow-oom
-- Give batches back, so that any instance may adopt them at once. ARGV: clock, then for each: batch, token, holder

local now = clock()
for i = 2, #ARGV, 3 do
  local id = ARGV[i]
  local stored = redis.call('HMGET', batch_at(id), 'token', 'holder', 'completed_at')
  if stored[1] == ARGV[i + 1] and stored[2] == ARGV[i + 2] and not stored[3] then
    redis.call('HDEL', batch_at(id), 'holder')
    redis.call('HINCRBY', batch_at(id), 'token', 1)
    redis.call('HSET', batch_at(id), 'due_at', seconds(now))
    redis.call('ZADD', LIVE, seconds(now), id)
  end
end
return 1
