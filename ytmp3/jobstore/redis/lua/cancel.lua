#!lua flags=allow-oom
-- Mark a job cancelled, and its conversion with it where no other job rides on it. ARGV: clock, retention, job
-- Returns {job, conversion}, or false.

local retention, job_id = tonumber(ARGV[2]), ARGV[3]
local now = clock()
local job = job_at(job_id)
local id = redis.call('HGET', job, 'conversion_id')
if not id then return false end
local conversion = load(id)
if conversion and redis.call('HSETNX', job, 'cancelled_at', seconds(now)) == 1 then
  tally(conversion.state, -1)
  tally('cancelled', 1)
  conversion.riders = redis.call('HINCRBY', conversion_at(id), 'riders', -1)
  if is_live(conversion) and conversion.riders == 0 then
    finalize(id, conversion, 'cancelled', now, retention)
    redis.call('HINCRBY', conversion_at(id), 'token', 1)
    redis.call('HDEL', conversion_at(id), 'queue_position')
  end
end
return ticket_reply(job_id)
