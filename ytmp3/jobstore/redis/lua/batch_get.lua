#!lua flags=no-writes
-- Read a batch without its items. ARGV: clock, batch. Returns its fields, none for an unknown id.

return redis.call('HGETALL', batch_at(ARGV[2]))
