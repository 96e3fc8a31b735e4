#!lua flags=no-writes
-- Return a shared value ('' if there is none) and the time. ARGV: clock, name

return {redis.call('GET', root .. ':v:' .. ARGV[2]) or '', seconds(clock())}
