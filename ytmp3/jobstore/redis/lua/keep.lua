#!lua flags=allow-oom
-- Let the tracks of jobs of one shard expire `seconds` from now at the earliest.
-- ARGV: clock, retention, seconds, then the jobs. Returns 1 for each job with a finished track, else 0.

local retention, wanted = tonumber(ARGV[2]), clock() + tonumber(ARGV[3])

local function keep(job_id)
  local job = redis.call('HMGET', job_at(job_id), 'conversion_id', 'cancelled_at')
  local conversion = job[1] and not job[2] and load(job[1])
  if not conversion or conversion.state ~= STATE.DONE then return 0 end
  if tonumber(conversion.expires_at) < wanted then
    redis.call('HSET', conversion_at(job[1]), 'expires_at', seconds(wanted))
    redis.call('ZADD', ENDED, seconds(wanted), job[1])
    -- The time to live must end later than this. It is set for two retentions from the end.
    local ttl = tonumber(ARGV[3]) + retention_of(conversion, retention) + TTL_MARGIN_SECONDS
    if redis.call('PTTL', conversion_at(job[1])) < ttl * 1000 then set_ttl(job[1], milliseconds(ttl)) end
  end
  return 1
end

local kept = {}
for i = 4, #ARGV do kept[#kept + 1] = keep(ARGV[i]) end
return kept
