#!lua flags=allow-oom
-- Remove ended conversions of one shard whose time has passed, with their jobs, a bounded number of them: a link that is
-- asked for all day gathers millions, and the server answers nobody else meanwhile. ARGV: clock, limit, most jobs
-- Returns whether jobs are left of a conversion, and for each that is gone the file name of its track, or nothing.

local now, room = clock(), tonumber(ARGV[3])
local file_names = {}

-- Returns whether it may have more.
local function remove_jobs(id, conversion)
  local job_ids = redis.call('SPOP', riders_at(id), room)
  local cancelled = 0
  for _, job_id in ipairs(job_ids) do
    cancelled = cancelled + redis.call('HEXISTS', job_at(job_id), 'cancelled_at')
    redis.call('DEL', job_at(job_id))
  end
  tally(conversion.state, cancelled - #job_ids)
  tally('cancelled', -cancelled)
  redis.call('HINCRBY', conversion_at(id), 'riders', cancelled - #job_ids)
  redis.call('HINCRBY', conversion_at(id), 'jobs', -#job_ids)
  room = room - #job_ids
  return room == 0
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', ENDED, '-inf', seconds(now), 'LIMIT', 0, ARGV[2])) do
  local conversion = load(id)
  if conversion then
    if remove_jobs(id, conversion) then return {1, file_names} end
    drop_pointer(id, conversion)
    redis.call('DEL', conversion_at(id), riders_at(id))
  end
  file_names[#file_names + 1] = conversion and conversion.file or false
  redis.call('ZREM', ENDED, id)
end
return {0, file_names}
