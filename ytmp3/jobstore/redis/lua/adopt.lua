#!lua flags=allow-oom
-- Take over what is due among some conversions of one shard.
-- ARGV: clock, lease, retention, instance, crash_limit, then the conversions. Returns those now held by the instance.

local lease, retention, instance, crash_limit = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local now = clock()

-- Its holder stopped renewing. Returns the token, or nil where that was one crash too many.
local function orphan(id, conversion)
  if conversion.state == 'running' then
    local crashes = redis.call('HINCRBY', conversion_at(id), 'crashes', 1)
    if crashes >= crash_limit then
      finalize(id, conversion, 'failed', now, retention)
      redis.call('HSET', conversion_at(id), 'error', 'poison')
      return nil
    end
  end
  return requeue(id, conversion, now)
end

local adopted = {}
for i = 6, #ARGV do
  local id = ARGV[i]
  local conversion = load(id)
  local due = redis.call('ZSCORE', LIVE, id)
  if not conversion then
    redis.call('ZREM', LIVE, id)
  elseif due and tonumber(due) <= now then
    local token = tonumber(conversion.token)
    if conversion.holder then token = orphan(id, conversion) end
    if token then
      hold(id, token + 1, instance, now + lease)
      adopted[#adopted + 1] = conversion_reply(id)
    end
  end
end
return adopted
