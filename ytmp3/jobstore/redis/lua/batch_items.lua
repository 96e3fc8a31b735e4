#!lua flags=no-writes
-- Read the items of a batch. ARGV: clock, batch. Returns them as JSON, or false for an unknown id.

return redis.call('GET', items_at(ARGV[2]))
