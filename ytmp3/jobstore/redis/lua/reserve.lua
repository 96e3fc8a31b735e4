#!lua
-- Reserve the id of a resource under a name, unless the name has one already.
-- ARGV: clock, life, name, resource, fingerprint, the resource to replace, or ''
-- Returns the resource of the name, its fingerprint, and the seconds since it was reserved.

local life, resource, fingerprint, instead_of = tonumber(ARGV[2]), ARGV[4], ARGV[5], ARGV[6]
local at = root .. ':i:' .. ARGV[3]
local now = clock()

if instead_of ~= '' and redis.call('HGET', at, 'resource_id') == instead_of then redis.call('DEL', at) end
if redis.call('HSETNX', at, 'resource_id', resource) == 1 then
  redis.call('HSET', at, 'fingerprint', fingerprint, 'reserved_at', seconds(now))
  redis.call('PEXPIRE', at, milliseconds(life))
end
local found = redis.call('HMGET', at, 'resource_id', 'fingerprint', 'reserved_at')
return {found[1], found[2], seconds(now - tonumber(found[3]))}
