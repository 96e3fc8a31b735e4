#!lua flags=no-writes
-- Return {job, conversion}, or false. ARGV: clock, job

return ticket_reply(ARGV[2])
