#!lua flags=allow-oom
-- Extend the leases of one shard and record their progress.
-- ARGV: clock, lease, then for each: conversion, token, holder, stage, progress, queue_position, metadata.
-- '' leaves a field as it is.
-- Returns the ids of the conversions whose lease is lost.

local FIELDS = {'stage', 'progress', 'queue_position', 'metadata'}
local due = seconds(clock() + tonumber(ARGV[2]))
local lost = {}
for i = 3, #ARGV, 7 do
  local id, token, holder = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if is_held_with(load(id), token, holder) then
    local changes = {'due_at', due}
    for n, name in ipairs(FIELDS) do
      local value = ARGV[i + 2 + n]
      if value ~= '' then
        changes[#changes + 1] = name
        changes[#changes + 1] = value
      end
    end
    redis.call('HSET', conversion_at(id), unpack(changes))
    redis.call('ZADD', LIVE, due, id)
    changed(id)
  else
    lost[#lost + 1] = id
  end
end
return lost
