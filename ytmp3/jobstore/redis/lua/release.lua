#!lua flags=allow-oom
-- Requeue conversions of one shard without counting an attempt (states.released).
-- ARGV: clock, then for each: conversion, token, holder

local now = clock()
for i = 2, #ARGV, 3 do
  local id = ARGV[i]
  local conversion = load(id)
  if is_held_with(conversion, ARGV[i + 1], ARGV[i + 2]) then requeue(id, conversion, now, 0) end
end
return 1
