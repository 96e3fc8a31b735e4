#!lua flags=allow-oom
-- Cancel a job. If it was the last active job of a live conversion, cancel the conversion too (states.cancelled); if
-- it was that of a done one, let the conversion expire now (states.given_up).
-- ARGV: clock, retention, job. Returns {job, conversion}, or false for an unknown job.

local retention, job_id = tonumber(ARGV[2]), ARGV[3]
local now = clock()
local job = job_at(job_id)
local id = redis.call('HGET', job, 'conversion_id')
if not id then return false end
local conversion = load(id)
if conversion and redis.call('HSETNX', job, 'cancelled_at', seconds(now)) == 1 then
  count_jobs(conversion.state, -1)
  count_jobs(STATE.CANCELLED, 1)
  conversion.riders = redis.call('HINCRBY', conversion_at(id), 'riders', -1)
  if is_live(conversion) and conversion.riders == 0 then
    finalize(id, conversion, STATE.CANCELLED, now, retention)
    -- The new token keeps a worker that is still running from writing.
    redis.call('HINCRBY', conversion_at(id), 'token', 1)
    redis.call('HDEL', conversion_at(id), 'queue_position')
  elseif conversion.state == STATE.DONE and conversion.riders == 0 then
    local expires = seconds(math.min(now, tonumber(conversion.expires_at)))
    retire(id, conversion)
    redis.call('HSET', conversion_at(id), 'expires_at', expires)
    redis.call('ZADD', ENDED, expires, id)
  end
  changed(id, 'jobs')
end
return ticket_reply(job_id)
