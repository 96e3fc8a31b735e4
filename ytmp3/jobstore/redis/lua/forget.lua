#!lua flags=allow-oom
-- Let a done conversion serve no new job. ARGV: clock, conversion

local conversion = load(ARGV[2])
if conversion and conversion.state == 'done' then drop_pointer(ARGV[2], conversion) end
return 1
