#!lua flags=allow-oom
-- Rebuild the indexes of a shard, or those of the batches, after another program has overwritten one of them.
-- ARGV: clock, lease, then the records by their names below the root: c:ID, d:ID or b:ID
-- A record that was created after the caller's search is in the indexes already.

local now, lease = clock(), tonumber(ARGV[2])

-- A living holder gets the length of a lease to renew, so that its work does not count as a crash.
local function due_of(record)
  return record.holder and seconds(math.max(tonumber(record.due_at), now + lease)) or record.due_at
end

local function add(record, id, is_unfinished)
  if is_unfinished then
    redis.call('ZADD', LIVE, 'NX', due_of(record), id)
  elseif record.expires_at then
    redis.call('ZADD', ENDED, 'NX', record.expires_at, id)
  end
end

for i = 3, #ARGV do
  local kind, id = string.sub(ARGV[i], 1, 1), string.sub(ARGV[i], 3)
  local record = load_at(root .. ':' .. ARGV[i])
  if record and kind == 'b' then
    add(record, id, not record.completed_at)
  elseif record and kind == 'c' then
    add(record, id, is_live(record))
    note_end(id, record.state)
  elseif record and record.state == DELIVERY.PENDING then
    redis.call('ZADD', OUTBOX, 'NX', record.due_at, id)
  end
end

-- Another program may have overwritten a record, too. Then pcall returns an error, which has no elements.
local jobs, unfinished = {}, {}
local function count(counts, name, number) counts[name] = (counts[name] or 0) + (tonumber(number) or 0) end
for _, index in ipairs({LIVE, ENDED}) do
  for _, id in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local found = redis.pcall('HMGET', conversion_at(id), 'state', 'riders', 'jobs')
    if found[1] then
      count(jobs, found[1], found[2])
      count(jobs, STATE.CANCELLED, tonumber(found[3] or found[2]) - tonumber(found[2]))
    end
    local client = redis.pcall('HMGET', batch_at(id), 'client', 'completed_at')
    if client[1] and not client[2] then count(unfinished, client[1], 1) end
  end
end
redis.call('DEL', root, BATCHES_OF)
for state, number in pairs(jobs) do redis.call('HSET', root, state, number) end
for client, number in pairs(unfinished) do redis.call('HSET', BATCHES_OF, client, number) end
return 1
