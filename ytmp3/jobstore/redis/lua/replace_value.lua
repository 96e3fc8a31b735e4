#!lua
-- Replace a shared value that has not changed since it was read. Returns 1, or 0 if it has changed.
-- ARGV: clock, name, the value that was read ('' for none), the new value, its time to live in milliseconds

local key = root .. ':v:' .. ARGV[2]
if (redis.call('GET', key) or '') ~= ARGV[3] then return 0 end
redis.call('SET', key, ARGV[4], 'PX', ARGV[5])
return 1
