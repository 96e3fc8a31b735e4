#!lua flags=allow-oom
-- Take over those of some conversions of one shard that have not been written to since they were found due: another
-- instance may have been faster, or the holder lives. The caller judges what is due (due.py), not this script, because
-- the clock may have been set in between.
-- ARGV: clock, lease, retention, instance, crash_limit, then for each: conversion, its due_at as it was found, 1 if it
-- may be taken from a holder, else 0
-- Returns the conversions that the instance holds now.

local lease, retention, instance, crash_limit = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local now = clock()

-- The lease ran out (states.orphaned, states.is_poison). Returns the new token; nil if this was one crash too many.
local function orphan(id, conversion)
  if conversion.state == STATE.RUNNING then
    local crashes = redis.call('HINCRBY', conversion_at(id), 'crashes', 1)
    if crashes >= crash_limit then
      finalize(id, conversion, STATE.FAILED, now, retention)
      redis.call('HSET', conversion_at(id), 'error', POISON)
      return nil
    end
  end
  return requeue(id, conversion, now, 0)
end

local adopted = {}
for i = 6, #ARGV, 3 do
  local id = ARGV[i]
  local conversion = load(id)
  local due = redis.call('ZSCORE', LIVE, id)
  if not conversion then
    -- The server has deleted the record by itself.
    redis.call('ZREM', LIVE, id)
  elseif due == ARGV[i + 1] and (not conversion.holder or ARGV[i + 2] == '1') then
    local token = tonumber(conversion.token)
    -- Without a holder it was given back, which costs nothing.
    if conversion.holder then token = orphan(id, conversion) end
    if token then
      hold(id, token + 1, instance, now, lease)
      adopted[#adopted + 1] = conversion_reply(id)
    end
  end
end
return adopted
