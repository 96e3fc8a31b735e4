#!lua flags=allow-oom
-- running -> done (states.finished). ARGV: clock, retention, conversion, token, holder, file_name, track, metadata
-- Returns the conversion; false if the lease is lost.

local retention, id, token, holder = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local file_name, track, metadata = ARGV[6], ARGV[7], ARGV[8]
local now = clock()
local conversion = load(id)
if not conversion or conversion.token ~= token then return false end
if conversion.state == STATE.DONE and conversion.track == track then
  -- A repeated call: the reply to the first one was lost.
  return conversion_reply(id)
end
if conversion.state ~= STATE.RUNNING or not is_held_with(conversion, token, holder) then return false end

finalize(id, conversion, STATE.DONE, now, retention)
redis.call('HSET', conversion_at(id), 'stage', STAGE.DONE, 'progress', '1.0', 'track', track, 'file', file_name,
  'metadata', metadata)
redis.call('HDEL', conversion_at(id), 'error', 'code')
return conversion_reply(id)
