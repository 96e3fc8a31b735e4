#!lua
-- Store a batch without a holder, due at once. A full server refuses this script only.
-- ARGV: clock, retention, most of a client, most in all, batch, client, recipe, marks, items, webhooks (JSON, or '' for
-- none), playlist ('' if none), 1 if the items are the chapters of a video, tags (JSON, or '')
-- Returns the batch; or 1 if the client, 2 if the store already has the most unfinished batches that are allowed.

local retention, id, client, recipe, marks, items = tonumber(ARGV[2]), ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local now = clock()

-- A repeated call: the reply to the first one was lost.
local known = redis.call('HGETALL', batch_at(id))
if #known > 0 then return known end
if tonumber(redis.call('HGET', BATCHES_OF, client) or 0) >= tonumber(ARGV[3]) then return 1 end
if redis.call('ZCARD', LIVE) >= tonumber(ARGV[4]) then return 2 end

redis.call('HSET', batch_at(id), 'batch_id', id, 'client', client, 'recipe_spelling', recipe, 'marks', marks,
  'token', 0, 'due_at', seconds(now), 'created_at', seconds(now), 'retention_seconds', retention)
if ARGV[10] ~= '' then redis.call('HSET', batch_at(id), 'webhooks', ARGV[10]) end
if ARGV[11] ~= '' then redis.call('HSET', batch_at(id), 'playlist', ARGV[11]) end
if ARGV[12] == '1' then redis.call('HSET', batch_at(id), 'is_split', 1) end
if ARGV[13] ~= '' then redis.call('HSET', batch_at(id), 'tags', ARGV[13]) end
redis.call('SET', items_at(id), items)
redis.call('HINCRBY', BATCHES_OF, client, 1)
redis.call('ZADD', LIVE, seconds(now), id)
return redis.call('HGETALL', batch_at(id))
