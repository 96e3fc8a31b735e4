#!lua flags=allow-oom
-- Adopt conversions of one shard, unless they were written to since the caller read them: another instance may have
-- adopted them, or the holder may have renewed the lease. The caller (due.py) decides which are due, not this script,
-- because the clock may have been set in between.
-- ARGV: clock, lease, retention, instance, crash_limit, then for each: conversion, its due_at as the caller read it,
-- 1 if it may be taken from a holder, else 0
-- Returns the adopted conversions.

local lease, retention, instance, crash_limit = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local now = clock()

-- Requeues a conversion whose lease ran out (states.orphaned). Returns the new token, or nil if the crash limit was
-- reached and the conversion has failed (states.is_poison).
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

-- Whether this instance failed the conversion, and the others may still adopt it first (states.HEAD_START_SECONDS). A
-- due time in the future was written before the clock was set back: then the wait is over (due.py).
local function is_left_to_others(conversion)
  local overdue = now - tonumber(conversion.due_at)
  return conversion.failed_by == instance and overdue >= 0 and overdue < HEAD_START_SECONDS
end

local adopted = {}
for i = 6, #ARGV, 3 do
  local id = ARGV[i]
  local conversion = load(id)
  local due = redis.call('ZSCORE', LIVE, id)
  if not conversion then
    -- The server has evicted the record.
    redis.call('ZREM', LIVE, id)
  elseif due == ARGV[i + 1] and (not conversion.holder and not is_left_to_others(conversion) or
    conversion.holder and ARGV[i + 2] == '1') then
    local token = tonumber(conversion.token)
    -- A conversion without a holder was released or waits for a retry. In these cases no crash is counted.
    if conversion.holder then token = orphan(id, conversion) end
    if token then
      hold(id, token + 1, instance, now, lease)
      adopted[#adopted + 1] = conversion_reply(id)
    end
  end
end
return adopted
