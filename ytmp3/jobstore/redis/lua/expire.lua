#!lua flags=allow-oom
-- Remove expired conversions of one shard with their jobs, but only a limited number of jobs: a popular link may have a
-- million, and the server processes no other command while a script runs.
-- ARGV: clock, the most conversions, the most jobs
-- Returns {1 if the limit of jobs was reached, else 0; for each removed conversion the name of its track, or false}.

local now, jobs_left = clock(), tonumber(ARGV[3])
local file_names = {}

-- Returns whether the limit of jobs was reached. Then the conversion is kept, because it may have more jobs.
local function remove_jobs(id, conversion)
  local job_ids = redis.call('SPOP', jobs_of(id), jobs_left)
  local cancelled = 0
  for _, job_id in ipairs(job_ids) do
    local facts = redis.call('HMGET', job_at(job_id), 'cancelled_at', 'webhooks')
    if facts[1] then cancelled = cancelled + 1 end
    if facts[2] then forget_deliveries(job_id, facts[2]) end
    redis.call('DEL', job_at(job_id))
  end
  count_jobs(conversion.state, cancelled - #job_ids)
  count_jobs(STATE.CANCELLED, -cancelled)
  redis.call('HINCRBY', conversion_at(id), 'riders', cancelled - #job_ids)
  redis.call('HINCRBY', conversion_at(id), 'jobs', -#job_ids)
  jobs_left = jobs_left - #job_ids
  return jobs_left == 0
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', ENDED, '-inf', seconds(now), 'LIMIT', 0, ARGV[2])) do
  local conversion = load(id)
  if conversion then
    if remove_jobs(id, conversion) then return {1, file_names} end
    retire(id, conversion)
    redis.call('DEL', conversion_at(id), jobs_of(id), hooked_of(id))
    redis.call('ZREM', OUTBOX, id)
  end
  file_names[#file_names + 1] = conversion and conversion.file or false
  redis.call('ZREM', ENDED, id)
end
return {0, file_names}
