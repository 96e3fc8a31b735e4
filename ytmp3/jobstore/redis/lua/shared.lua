-- The beginning of every script: the layout of the records, and functions that several scripts use.
--
-- The names of all keys of a shard begin with KEYS[1] (the root). Because of its {hash tag}, all keys that a script
-- uses are in one slot of a cluster.
--   root            hash: the number of jobs by state        root:c:ID   hash: a conversion
--   root:outbox, root:h:ID and root:d:ID are those of outbox.lua
--   root:live       sorted set: conversions by due_at        root:r:ID   set: the ids of a conversion's jobs
--   root:ended      sorted set: conversions by expires_at    root:j:ID   hash: a job
--                                                            root:k:KEY  string: the current conversion of KEY
-- All batches have one root of their own, because they are few. Its sorted sets are of batches, and it also has:
--   root:b:ID       hash: a batch, with the fields of core.batch.Batch       root:i:ID   string: its items as JSON
--   root:of         hash: the number of unfinished batches by client
-- The hash of a conversion has the fields of core.job.Conversion, and some that only the scripts and records.py use:
--   riders  its jobs that are not cancelled      jobs  all its jobs      file  the file name of its track
--   code    `error`, a slash, and the failure code for which `error` stands (set_error)
--   wait    how long it was from the last write of due_at, by the clock of that moment, until due_at (due.py)
--
-- The transitions are those of core/states.py. The contract suite runs the same tests against these scripts and against
-- the functions there. scripts.py generates STATE, STAGE, HEAD_START_SECONDS, ELSEWHERE_SECONDS, PLACE_CHARACTERS,
-- POISON, EVENT, DELIVERY and MAX_TARGETS from the constants of core, and puts them before this file.
--
-- The server runs no other command during a script. A crash of the server loses all writes of a script or none, because
-- its append-only file has them as one transaction. But an error in the middle of a script would leave the writes
-- before it, so each script does all checks before its first write.
--
-- Times are written with six decimals: Lua's default format would round them to a tenth of a millisecond.

local root = KEYS[1]

-- Ended records also get a time to live, in case no instance ever runs expire.lua again. It is longer than the
-- retention by this many seconds, so that the server never removes a record before expire.lua does: the instance that
-- runs expire.lua also deletes the file.
local TTL_MARGIN_SECONDS = 3600
-- A conversion with more jobs than this gets no time to live: it would have to be set for each job, and the server runs
-- no other command meanwhile (0.4 s for 100,000 jobs). Only expire.lua removes such a conversion, in several calls.
local MAX_JOBS_WITH_TTL = 2000

local function conversion_at(id) return root .. ':c:' .. id end
local function jobs_of(id) return root .. ':r:' .. id end
local function job_at(id) return root .. ':j:' .. id end
local function current_of(key) return root .. ':k:' .. key end
local function batch_at(id) return root .. ':b:' .. id end
local function items_at(id) return root .. ':i:' .. id end
local BATCHES_OF = root .. ':of'
local LIVE = root .. ':live'
local ENDED = root .. ':ended'
local OUTBOX = root .. ':outbox'
local function hooked_of(id) return root .. ':h:' .. id end

local function seconds(time) return string.format('%.6f', time) end

-- Returns the time of the server's clock, or of a test's clock (ARGV[1]).
local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- Returns an error if another program has overwritten an index of this shard, else nil. Every script that writes begins
-- with this check (scripts.py): an error in the middle of it would leave half a change. indexes.py reports the fault.
--
-- The same check refuses a shard whose slot is being moved to another node of a cluster key by key (CLUSTER SETSLOT
-- MIGRATING, MIGRATE). Then a script that needs a key which has moved, or which does not exist, would end with an error
-- at this key, in the middle of its writes. A key that never exists tells this before the first write.
local function wrong_index()
  local probe = redis.pcall('EXISTS', root .. ':probe')
  if type(probe) == 'table' and probe.err and string.find(probe.err, 'non local key', 1, true) then
    return redis.error_reply('TRYAGAIN the slot of ' .. root .. ' is being moved')
  end
  for _, name in ipairs({LIVE, ENDED, OUTBOX, root, BATCHES_OF}) do
    local found = redis.pcall('TYPE', name).ok
    local expected = (name == root or name == BATCHES_OF) and 'hash' or 'zset'
    if found and found ~= 'none' and found ~= expected then
      return redis.error_reply('WRONGTYPE the key ' .. name .. ' is a ' .. found .. ' and not a ' .. expected)
    end
  end
end

-- Returns the fields of a hash as strings; nil if it does not exist, or if another program has overwritten it.
local function load_at(name)
  local flat = redis.pcall('HGETALL', name)
  if flat.err or #flat == 0 then return nil end
  local record = {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

-- Returns the fields of a conversion, or nil.
local function load(id) return load_at(conversion_at(id)) end

local function is_live(conversion)
  return conversion.state == STATE.QUEUED or conversion.state == STATE.RUNNING
end

-- Whether this lease is the present one: both its holder and its token (core.job.Lease says why both).
local function is_held_with(conversion, token, holder)
  return conversion and is_live(conversion) and conversion.token == token and conversion.holder == holder
end

local function count_jobs(state, change)
  if change ~= 0 then redis.call('HINCRBY', root, state, change) end
end

-- Moves the active jobs of a conversion from the count of its state to that of `state`. The caller writes the state.
local function count_move(conversion, state)
  local active = tonumber(conversion.riders)
  count_jobs(conversion.state, -active)
  count_jobs(state, active)
end

local function conversion_reply(id) return redis.call('HGETALL', conversion_at(id)) end

-- Returns {job, conversion}, or false for an unknown job.
local function ticket_reply(job_id)
  local job = redis.call('HGETALL', job_at(job_id))
  if #job == 0 then return false end
  local id = redis.call('HGET', job_at(job_id), 'conversion_id')
  local conversion = conversion_reply(id)
  if #conversion == 0 then return false end
  return {job, conversion}
end

-- Publishes a hint that a conversion has changed (hints.py); `what` is 'jobs' if a job has changed too, else ''. pcall,
-- because a user who may not publish must not stop the script in the middle.
local function changed(id, what) redis.pcall('PUBLISH', root .. ':w:' .. id, what or '') end

-- Prevents further jobs from joining the conversion, if it is the current one of its key.
local function retire(id, conversion)
  local current = current_of(conversion.key)
  if redis.call('GET', current) == id then redis.call('DEL', current) end
end

-- states.held: gives a queued conversion to `instance` for the length of a lease, under a new token.
local function hold(id, token, instance, now, lease)
  local due = seconds(now + lease)
  redis.call('HSET', conversion_at(id), 'token', token, 'holder', instance, 'due_at', due, 'wait', lease)
  redis.call('ZADD', LIVE, due, id)
  changed(id)
end

-- states._requeued: queues the conversion without a holder, due after `delay` seconds. Returns the new token.
local function requeue(id, conversion, now, delay)
  count_move(conversion, STATE.QUEUED)
  local token = tonumber(conversion.token) + 1
  redis.call('HSET', conversion_at(id), 'state', STATE.QUEUED, 'stage', STAGE.QUEUED, 'progress', '0.0',
    'token', token, 'due_at', seconds(now + delay), 'wait', delay)
  redis.call('HDEL', conversion_at(id), 'holder', 'queue_position')
  redis.call('ZADD', LIVE, seconds(now + delay), id)
  changed(id)
  return token
end

-- Gives an ended conversion and its jobs a time to live. Live records have none.
local function set_ttl(id, milliseconds)
  if redis.call('SCARD', jobs_of(id)) > MAX_JOBS_WITH_TTL then return end
  redis.call('PEXPIRE', conversion_at(id), milliseconds)
  redis.call('PEXPIRE', jobs_of(id), milliseconds)
  redis.call('PEXPIRE', hooked_of(id), milliseconds)
  for _, job_id in ipairs(redis.call('SMEMBERS', jobs_of(id))) do
    redis.call('PEXPIRE', job_at(job_id), milliseconds)
  end
end

-- Sets the error of the last attempt. Version 0.2 cannot read a record with a failure code that is newer than itself,
-- and may use the same server during an upgrade or after a rollback. So `error` has a code that it knows, and `code` the
-- present one (records.ERRORS_OF_0_2). `code` counts only while it begins with `error`, which 0.2 may change alone.
local function set_error(id, known, code)
  redis.call('HSET', conversion_at(id), 'error', known, 'code', known .. '/' .. code)
end

local function has_error(conversion, known, code)
  return conversion.error == known and conversion.code == known .. '/' .. code
end

local function milliseconds(time) return string.format('%.0f', time * 1000) end

-- The same for a done conversion and the entry of its key. It takes jobs for one retention, and the last of them may
-- move its expiry by another one.
local function set_ttl_of_done(id, conversion, retention)
  local ttl = milliseconds(2 * retention + TTL_MARGIN_SECONDS)
  redis.call('PEXPIRE', current_of(conversion.key), ttl)
  set_ttl(id, ttl)
end

-- states.retention_of: `retention` is the policy of the calling instance, for records of 0.2 that have none.
local function retention_of(conversion, retention) return tonumber(conversion.retention_seconds) or retention end

-- Notes in the outbox that a conversion has ended in `state`, if that is an event and a job of it has webhooks.
local function note_end(id, state)
  if EVENT[state] and redis.call('EXISTS', hooked_of(id)) == 1 then redis.call('ZADD', OUTBOX, 0, id) end
end

-- The common part of states.finished, failed and cancelled. The caller writes the other fields.
local function finalize(id, conversion, state, now, retention)
  retention = retention_of(conversion, retention)
  count_move(conversion, state)
  local expires = now + retention
  redis.call('HSET', conversion_at(id), 'state', state, 'completed_at', seconds(now), 'expires_at', seconds(expires))
  redis.call('HDEL', conversion_at(id), 'holder')
  redis.call('ZREM', LIVE, id)
  redis.call('ZADD', ENDED, seconds(expires), id)
  note_end(id, state)
  if state == STATE.DONE then
    set_ttl_of_done(id, conversion, retention)
  else
    retire(id, conversion)
    set_ttl(id, milliseconds(retention + TTL_MARGIN_SECONDS))
  end
  changed(id)
end

-- Gives a batch to `instance` for the length of a lease, under a new token.
local function hold_batch(id, instance, now, lease)
  local due = seconds(now + lease)
  redis.call('HINCRBY', batch_at(id), 'token', 1)
  redis.call('HSET', batch_at(id), 'holder', instance, 'due_at', due)
  redis.call('ZADD', LIVE, due, id)
end
