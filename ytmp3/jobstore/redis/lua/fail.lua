#!lua flags=allow-oom
-- running -> failed. ARGV: clock, retention, conversion, token, error. Returns 1; 0 if the lease is lost.

local retention, id, token, code = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local now = clock()
local conversion = load(id)
if not conversion or conversion.token ~= token then return 0 end
-- The reply to the first call was lost.
if conversion.state == 'failed' and conversion.error == code then return 1 end
if conversion.state ~= 'running' then return 0 end

finalize(id, conversion, 'failed', now, retention)
redis.call('HSET', conversion_at(id), 'error', code)
redis.call('HINCRBY', conversion_at(id), 'attempts', 1)
return 1
