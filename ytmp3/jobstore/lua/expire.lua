#!lua flags=allow-oom
-- Remove ended conversions of one shard whose time has passed, with all their jobs. ARGV: clock, limit
-- Returns for each the file name of its track, or nothing.

local now = clock()
local file_names = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ENDED, '-inf', seconds(now), 'LIMIT', 0, ARGV[2])) do
  local conversion = load(id)
  if conversion then
    local riders, jobs = tonumber(conversion.riders), tonumber(conversion.jobs)
    tally(conversion.state, -riders)
    tally('cancelled', riders - jobs)
    for _, job_id in ipairs(redis.call('SMEMBERS', riders_at(id))) do redis.call('DEL', job_at(job_id)) end
    drop_pointer(id, conversion)
    redis.call('DEL', conversion_at(id), riders_at(id))
  end
  file_names[#file_names + 1] = conversion and conversion.file or false
  redis.call('ZREM', ENDED, id)
end
return file_names
