#!lua flags=allow-oom
-- running -> queued, after a retryable error (states.retried).
-- ARGV: clock, delay, conversion, token, holder, the error as 0.2 knows it, the error, 1 if it costs an attempt.
-- Returns 1; 0 if the lease is lost.

local delay, id, token, holder, known, code = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local now = clock()
local conversion = load(id)
if not conversion then return 0 end
if conversion.state == STATE.QUEUED and not conversion.holder and has_error(conversion, known, code)
  and conversion.token == tostring(tonumber(token) + 1) then
  -- A repeated call: the reply to the first one was lost, and no instance has adopted the conversion since.
  return 1
end
if conversion.state ~= STATE.RUNNING or not is_held_with(conversion, token, holder) then return 0 end

requeue(id, conversion, now, delay)
set_error(id, known, code)
redis.call('HSET', conversion_at(id), 'failed_by', holder)
if ARGV[8] == '1' then redis.call('HINCRBY', conversion_at(id), 'attempts', 1) end
return 1
