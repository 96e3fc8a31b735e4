#!lua flags=allow-oom
-- running -> failed (states.failed).
-- ARGV: clock, retention, conversion, token, holder, error. Returns 1; 0 if the lease is lost.

local retention, id, token, holder, code = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now = clock()
local conversion = load(id)
if not conversion or conversion.token ~= token then return 0 end
-- A repeated call: the reply to the first one was lost.
if conversion.state == STATE.FAILED and conversion.error == code then return 1 end
if conversion.state ~= STATE.RUNNING or not is_held_with(conversion, token, holder) then return 0 end

finalize(id, conversion, STATE.FAILED, now, retention)
redis.call('HSET', conversion_at(id), 'error', code)
redis.call('HINCRBY', conversion_at(id), 'attempts', 1)
return 1
