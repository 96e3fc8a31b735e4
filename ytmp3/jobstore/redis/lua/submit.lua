#!lua
-- Attach a job to the conversion that serves its key, or create both. A full server refuses this script, and only this.
-- ARGV: clock, lease, retention, instance, may_create, job, conversion, key, video, quality, client
-- Returns {job, conversion}; false where it would have to create and may not.

local lease, retention, instance, may_create = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1'
local job_id, new_id, key, video_id, quality, client = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local now = clock()

-- The reply to the first call was lost.
local repeated = ticket_reply(job_id)
if repeated then return repeated end

local id = redis.call('GET', pointer_at(key))
local conversion = id and load(id)
local served = conversion and (is_live(conversion)
  or (conversion.state == 'done' and tonumber(conversion.completed_at) + retention > now))

if not served then
  if not may_create then return false end
  id = new_id
  -- `quality` is for instances of version 0.1, which may share the server during an update. Newer ones read the key.
  redis.call('HSET', conversion_at(id), 'conversion_id', id, 'key', key, 'video_id', video_id, 'quality', quality,
    'client', client, 'state', 'queued', 'stage', 'queued', 'progress', '0.0', 'attempts', 0, 'crashes', 0,
    'created_at', seconds(now), 'riders', 0, 'jobs', 0)
  hold(id, 1, instance, now + lease)
  redis.call('SET', pointer_at(key), id)
end

redis.call('HSET', job_at(job_id), 'job_id', job_id, 'conversion_id', id, 'client', client,
  'deduplicated', served and 1 or 0, 'created_at', seconds(now))
redis.call('SADD', riders_at(id), job_id)
redis.call('HINCRBY', conversion_at(id), 'riders', 1)
redis.call('HINCRBY', conversion_at(id), 'jobs', 1)
tally(served and conversion.state or 'queued', 1)

if served and conversion.state == 'done' then
  redis.call('HSET', conversion_at(id), 'expires_at', seconds(now + retention))
  redis.call('ZADD', ENDED, seconds(now + retention), id)
  local left = redis.call('PTTL', conversion_at(id))
  -- A crowd's conversion carries no time to live.
  if left > 0 then redis.call('PEXPIRE', job_at(job_id), left) end
elseif served then
  redis.call('HSET', conversion_at(id), 'joined_at', seconds(now))
end
return ticket_reply(job_id)
