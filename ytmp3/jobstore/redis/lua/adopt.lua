#!lua flags=allow-oom
-- Adopt conversions of one shard, unless they were written to since the caller read them: another instance may have
-- adopted them, or the holder may have renewed the lease. The caller (due.py) decides which are due, not this script,
-- because the clock may have been set in between.
-- ARGV: clock, lease, retention, instance, crash_limit, then for each: conversion, its due_at as the caller read it,
-- 1 if it may be taken from a holder, else 0
-- Returns the adopted conversions.

local lease, retention, instance, crash_limit = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local now = clock()

-- ids.place_of
local function place_of(holder) return string.sub(holder, 1, PLACE_CHARACTERS) end

-- states.has_crashed_here_only
local function has_crashed_here_only(conversion)
  return conversion.crashes == '0' or conversion.crashed_at == place_of(conversion.holder)
end

-- Whether the crash limit is reached, if a conversion whose lease ran out has crashed once more.
local function is_at_limit(conversion)
  return conversion.state == STATE.RUNNING and tonumber(conversion.crashes) + 1 >= crash_limit
end

-- Requeues a conversion whose lease ran out (states.orphaned). Returns the new token, or nil if the conversion has
-- failed (states.is_poison).
local function orphan(id, conversion)
  if conversion.state == STATE.RUNNING then
    local is_here_only = has_crashed_here_only(conversion)
    redis.call('HINCRBY', conversion_at(id), 'crashes', 1)
    if is_at_limit(conversion) and not (is_here_only and place_of(conversion.holder) ~= place_of(instance)) then
      finalize(id, conversion, STATE.FAILED, now, retention)
      redis.call('HSET', conversion_at(id), 'error', POISON)
      return nil
    end
    redis.call('HSET', conversion_at(id), 'crashed_at', is_here_only and place_of(conversion.holder) or '')
  end
  return requeue(id, conversion, now, 0)
end

-- Whether the others may still adopt the conversion first: because this instance failed it (states.HEAD_START_SECONDS),
-- or because it has crashed only here, and would fail now (states.ELSEWHERE_SECONDS). A due time in the future was
-- written before the clock was set back: then the wait is over (due.py).
local function is_left_to_others(conversion)
  local wait = 0
  if not conversion.holder then
    if conversion.failed_by == instance then wait = HEAD_START_SECONDS end
  elseif is_at_limit(conversion) and has_crashed_here_only(conversion)
    and place_of(conversion.holder) == place_of(instance) then
    wait = ELSEWHERE_SECONDS
  end
  local overdue = now - tonumber(conversion.due_at)
  return overdue >= 0 and overdue < wait
end

local adopted = {}
for i = 6, #ARGV, 3 do
  local id = ARGV[i]
  local conversion = load(id)
  local due = redis.call('ZSCORE', LIVE, id)
  if not conversion then
    -- The server has evicted the record.
    redis.call('ZREM', LIVE, id)
  elseif due == ARGV[i + 1] and (not conversion.holder or ARGV[i + 2] == '1') and not is_left_to_others(conversion) then
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
