#!lua flags=allow-oom
-- Prevent further jobs from joining a done conversion. ARGV: clock, conversion

local conversion = load(ARGV[2])
if conversion and conversion.state == STATE.DONE then retire(ARGV[2], conversion) end
return 1
