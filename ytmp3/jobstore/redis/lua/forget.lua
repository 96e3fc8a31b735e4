#!lua flags=allow-oom
-- Let a done conversion take no more jobs. ARGV: clock, conversion

local conversion = load(ARGV[2])
if conversion and conversion.state == STATE.DONE then retire(ARGV[2], conversion) end
return 1
