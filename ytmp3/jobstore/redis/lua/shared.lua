-- Prepended to every script. One shard's records, all under the one name KEYS[1], whose {hash tag} puts every key that
-- a script can reach into one cluster slot:
--   root            hash: jobs by state (the tallies)        root:c:ID   hash: a conversion
--   root:live       sorted set: conversions by due_at        root:r:ID   set: the jobs that ride on it
--   root:ended      sorted set: conversions by expires_at    root:j:ID   hash: a job
--                                                            root:k:KEY  string: the conversion that serves KEY
-- The states and moves are those of ytmp3/core/states.py; the contract suite holds both adapters to them.
-- Times are seconds with six decimals: Lua's own number format would round them to a tenth of a millisecond.

local root = KEYS[1]

-- A safety net far behind the sweep of expire: it must never take a record before its sweep.
local GRACE_SECONDS = 3600
-- A conversion with more jobs has no net: it would cost a step for each, and the server answers nobody else meanwhile
-- (100,000 took 0.4 s). The sweep of expire, which goes in steps, is all that removes it.
local MOST_JOBS_IN_NET = 2000

local function conversion_at(id) return root .. ':c:' .. id end
local function riders_at(id) return root .. ':r:' .. id end
local function job_at(id) return root .. ':j:' .. id end
local function pointer_at(key) return root .. ':k:' .. key end
local LIVE = root .. ':live'
local ENDED = root .. ':ended'

local function seconds(time) return string.format('%.6f', time) end

-- The clock of all instances is the server's; ARGV[1] is a test's.
local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function load(id)
  local flat = redis.call('HGETALL', conversion_at(id))
  if #flat == 0 then return nil end
  local conversion = {}
  for i = 1, #flat, 2 do conversion[flat[i]] = flat[i + 1] end
  return conversion
end

local function is_live(conversion)
  return conversion.state == 'queued' or conversion.state == 'running'
end

local function is_held_with(conversion, token)
  return conversion and is_live(conversion) and conversion.token == token
end

local function tally(state, change)
  if change ~= 0 then redis.call('HINCRBY', root, state, change) end
end

local function move(conversion, state)
  local riders = tonumber(conversion.riders)
  tally(conversion.state, -riders)
  tally(state, riders)
end

local function conversion_reply(id) return redis.call('HGETALL', conversion_at(id)) end

local function ticket_reply(job_id)
  local job = redis.call('HGETALL', job_at(job_id))
  if #job == 0 then return false end
  local id = redis.call('HGET', job_at(job_id), 'conversion_id')
  local conversion = conversion_reply(id)
  if #conversion == 0 then return false end
  return {job, conversion}
end

local function drop_pointer(id, conversion)
  local pointer = pointer_at(conversion.key)
  if redis.call('GET', pointer) == id then redis.call('DEL', pointer) end
end

-- Held by `instance` (queued) until `due`: a new holder, so a new token.
local function hold(id, token, instance, due)
  redis.call('HSET', conversion_at(id), 'token', token, 'holder', instance, 'due_at', seconds(due))
  redis.call('ZADD', LIVE, seconds(due), id)
end

-- Back to the queue, in nobody's hands, to be adopted from `due` on.
local function requeue(id, conversion, due)
  move(conversion, 'queued')
  local token = tonumber(conversion.token) + 1
  redis.call('HSET', conversion_at(id), 'state', 'queued', 'stage', 'queued', 'progress', '0.0', 'token', token,
    'due_at', seconds(due))
  redis.call('HDEL', conversion_at(id), 'holder', 'queue_position')
  redis.call('ZADD', LIVE, seconds(due), id)
  return token
end

-- Live records carry no time to live; ended ones do.
local function spread_net(id, milliseconds)
  if redis.call('SCARD', riders_at(id)) > MOST_JOBS_IN_NET then return end
  redis.call('PEXPIRE', conversion_at(id), milliseconds)
  redis.call('PEXPIRE', riders_at(id), milliseconds)
  for _, job_id in ipairs(redis.call('SMEMBERS', riders_at(id))) do
    redis.call('PEXPIRE', job_at(job_id), milliseconds)
  end
end

-- The end, in `state`.
local function finalize(id, conversion, state, now, retention)
  move(conversion, state)
  local expires = now + retention
  redis.call('HSET', conversion_at(id), 'state', state, 'completed_at', seconds(now), 'expires_at', seconds(expires))
  redis.call('HDEL', conversion_at(id), 'holder')
  redis.call('ZREM', LIVE, id)
  redis.call('ZADD', ENDED, seconds(expires), id)
  local patience = retention + GRACE_SECONDS
  if state == 'done' then
    -- A job that attaches moves the expiry by up to one more retention.
    patience = patience + retention
    redis.call('PEXPIRE', pointer_at(conversion.key), string.format('%.0f', patience * 1000))
  else
    drop_pointer(id, conversion)
  end
  spread_net(id, string.format('%.0f', patience * 1000))
end
