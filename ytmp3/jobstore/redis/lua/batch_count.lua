#!lua flags=no-writes
-- Count the batches that have not ended.

return redis.call('ZCARD', LIVE)
