#!lua flags=allow-oom
-- queued -> running (states.claimed). It runs on a full server too, so that acknowledged jobs can be completed.
-- ARGV: clock, lease, instance, conversion, token, holder. Returns the conversion; false if the lease is lost.

local lease, instance, id, token, holder = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now = clock()
local conversion = load(id)
if not conversion or holder ~= instance or conversion.holder ~= instance then return false end

local next_token = tostring(tonumber(token) + 1)
if conversion.state == STATE.RUNNING and conversion.token == next_token then
  -- The reply to the first call was lost: only this holder's claim of this lease can have made this token.
  return conversion_reply(id)
end
if conversion.state ~= STATE.QUEUED or conversion.token ~= token then return false end

count_move(conversion, STATE.RUNNING)
redis.call('HSET', conversion_at(id), 'state', STATE.RUNNING, 'stage', STAGE.EXTRACTING, 'progress', '0.0',
  'token', next_token, 'due_at', seconds(now + lease), 'wait', lease)
redis.call('HSETNX', conversion_at(id), 'started_at', seconds(now))
redis.call('HDEL', conversion_at(id), 'queue_position')
redis.call('ZADD', LIVE, seconds(now + lease), id)
changed(id)
return conversion_reply(id)
