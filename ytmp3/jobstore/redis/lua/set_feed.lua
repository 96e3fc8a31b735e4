#!lua
-- Set the digest of a client's feed token, in place of the last one. ARGV: clock, client, digest, or '' for no token

local client, digest = ARGV[2], ARGV[3]
local feed = root .. ':f:' .. client
local last = redis.call('GET', feed)
if last then redis.call('DEL', feed, root .. ':t:' .. last) end
if digest ~= '' then
  redis.call('SET', feed, digest)
  redis.call('SET', root .. ':t:' .. digest, client)
end
return 1
