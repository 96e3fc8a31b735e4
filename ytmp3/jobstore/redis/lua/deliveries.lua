#!lua flags=allow-oom
-- Read the deliveries of a job or a batch. If it is a job that has ended, its deliveries are created first.
-- ARGV: clock, subject. Returns the deliveries in the order of its targets.

local subject_id = ARGV[2]
local id = redis.call('HGET', job_at(subject_id), 'conversion_id')
local conversion = id and load(id)
if conversion and EVENT[conversion.state] and redis.call('SREM', hooked_of(id), subject_id) == 1 then
  announce_job(subject_id, conversion.state, clock())
end
local found = {}
for number = 0, MAX_TARGETS - 1 do
  local delivery = delivery_reply(subject_id .. '-' .. number)
  if #delivery > 0 then found[#found + 1] = delivery end
end
return found
