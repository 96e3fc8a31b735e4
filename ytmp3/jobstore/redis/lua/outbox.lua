-- The outbox: the webhook messages to send (jobstore/outbox.py). It is inserted after shared.lua in every script.
--   root:outbox  sorted set: pending deliveries by due_at, and, with score 0, ended conversions that have hooked jobs
--   root:h:ID    set: the jobs of conversion ID with webhooks, whose deliveries are not created yet
--   root:d:ID    hash: a delivery, with the fields of core.webhook.Delivery
--
-- The step that ends a conversion adds one member to root:outbox, however many jobs it has (shared.lua: finalize).

local function delivery_at(id) return root .. ':d:' .. id end

local function delivery_reply(id) return redis.call('HGETALL', delivery_at(id)) end

-- webhook.deliveries_of: creates the deliveries of an event. `targets` is the JSON of the subject's webhooks, `ttl` the
-- time to live of the subject in milliseconds; not above 0: it has none.
local function announce(subject_id, event, targets, now, ttl)
  for number, target in ipairs(cjson.decode(targets)) do
    local id = subject_id .. '-' .. (number - 1)
    local is_wanted = false
    for _, wanted in ipairs(target.events) do is_wanted = is_wanted or wanted == event end
    if is_wanted and redis.call('EXISTS', delivery_at(id)) == 0 then
      redis.call('HSET', delivery_at(id), 'delivery_id', id, 'subject_id', subject_id, 'event', event,
        'endpoint', target.endpoint, 'state', DELIVERY.PENDING, 'attempts', 0, 'token', 0,
        'created_at', seconds(now), 'due_at', seconds(now))
      if target.url ~= cjson.null then redis.call('HSET', delivery_at(id), 'url', target.url) end
      if ttl > 0 then redis.call('PEXPIRE', delivery_at(id), ttl) end
      redis.call('ZADD', OUTBOX, seconds(now), id)
    end
  end
end

-- Creates the deliveries of a job of an ended conversion. A cancelled job has none.
local function announce_job(job_id, state, now)
  local job = job_at(job_id)
  local facts = redis.call('HMGET', job, 'webhooks', 'cancelled_at')
  if facts[1] and not facts[2] then announce(job_id, EVENT[state], facts[1], now, redis.call('PTTL', job)) end
end

-- Removes the deliveries of a subject. `targets` is the JSON of its webhooks.
local function forget_deliveries(subject_id, targets)
  for number = 0, #cjson.decode(targets) - 1 do
    local id = subject_id .. '-' .. number
    if redis.call('DEL', delivery_at(id)) == 1 then redis.call('ZREM', OUTBOX, id) end
  end
end
