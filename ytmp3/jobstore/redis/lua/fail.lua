#!lua flags=allow-oom
-- running -> failed (states.failed).
-- ARGV: clock, retention, conversion, token, holder, the error as 0.2 knows it, the error.
-- Returns 1; 0 if the lease is lost.

local retention, id, token, holder, known, code = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local now = clock()
local conversion = load(id)
if not conversion or conversion.token ~= token then return 0 end
-- A repeated call: the reply to the first one was lost.
if conversion.state == STATE.FAILED and has_error(conversion, known, code) then return 1 end
if conversion.state ~= STATE.RUNNING or not is_held_with(conversion, token, holder) then return 0 end

finalize(id, conversion, STATE.FAILED, now, retention)
set_error(id, known, code)
redis.call('HINCRBY', conversion_at(id), 'attempts', 1)
return 1
