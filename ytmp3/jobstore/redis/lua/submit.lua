#!lua
-- Add a job to the current conversion of its key, or create both. A full server refuses this script only.
-- ARGV: clock, lease, retention, instance, may_create, may_join, the most jobs of a conversion, job, conversion, key,
-- video, quality, client, webhooks (JSON, or '' for none), batch ('' if none), edits (JSON, or '')
-- Returns {job, conversion}, or false if a conversion would have to be created and may_create is not '1', or if the job
-- would share an unfinished conversion and may_join is not '1'.

local lease, retention, instance, may_create = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1'
local may_join, most_jobs = ARGV[6] == '1', tonumber(ARGV[7])
local job_id, new_id, key, video_id, quality, client = ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[13]
local webhooks, batch, edits = ARGV[14], ARGV[15], ARGV[16]
local now = clock()

-- A repeated call: the job exists, because the reply to the first call was lost.
local repeated = ticket_reply(job_id)
if repeated then return repeated end

local id = redis.call('GET', current_of(key))
local conversion = id and load(id)
-- states.takes_jobs, and the bound on the jobs of one conversion
local is_joined = conversion and (tonumber(conversion.jobs) or 0) < most_jobs and (is_live(conversion)
  or (conversion.state == STATE.DONE and tonumber(conversion.completed_at) + retention_of(conversion, retention) > now))

if is_joined and is_live(conversion) and not may_join then return false end
if not is_joined then
  if not may_create then return false end
  id = new_id
  -- states.created. `quality` is for instances of version 0.1, which may use the same server during an update; newer
  -- ones read the recipe at the end of the key.
  redis.call('HSET', conversion_at(id), 'conversion_id', id, 'key', key, 'video_id', video_id, 'quality', quality,
    'client', client, 'state', STATE.QUEUED, 'stage', STAGE.QUEUED, 'progress', '0.0', 'attempts', 0, 'crashes', 0,
    'created_at', seconds(now), 'retention_seconds', retention, 'riders', 0, 'jobs', 0)
  hold(id, 1, instance, now, lease)
  redis.call('SET', current_of(key), id)
end

redis.call('HSET', job_at(job_id), 'job_id', job_id, 'conversion_id', id, 'client', client,
  'deduplicated', is_joined and 1 or 0, 'created_at', seconds(now))
if batch ~= '' then redis.call('HSET', job_at(job_id), 'batch_id', batch) end
if edits ~= '' then redis.call('HSET', job_at(job_id), 'edits', edits) end
redis.call('SADD', jobs_of(id), job_id)
redis.call('HINCRBY', conversion_at(id), 'riders', 1)
redis.call('HINCRBY', conversion_at(id), 'jobs', 1)
count_jobs(is_joined and conversion.state or STATE.QUEUED, 1)
if webhooks ~= '' then
  redis.call('HSET', job_at(job_id), 'webhooks', webhooks)
  redis.call('SADD', hooked_of(id), job_id)
  note_end(id, is_joined and conversion.state or STATE.QUEUED)
end

-- states.joined
local promised = is_joined and retention_of(conversion, retention)
if is_joined and (retention > promised or not conversion.retention_seconds) then
  redis.call('HSET', conversion_at(id), 'retention_seconds', math.max(retention, promised))
end
if is_joined and conversion.state == STATE.DONE then
  local expires = seconds(math.max(tonumber(conversion.expires_at), now + retention))
  redis.call('HSET', conversion_at(id), 'expires_at', expires)
  redis.call('ZADD', ENDED, expires, id)
  if retention > promised then set_ttl_of_done(id, conversion, retention) end
  -- The job gets the time to live of its conversion. A conversion with very many jobs has none (set_ttl).
  local left = redis.call('PTTL', conversion_at(id))
  if left > 0 then
    redis.call('PEXPIRE', job_at(job_id), left)
    redis.call('PEXPIRE', hooked_of(id), left)
  end
elseif is_joined then
  redis.call('HSET', conversion_at(id), 'joined_at', seconds(now))
end
return ticket_reply(job_id)
