#!lua flags=no-writes
-- Read a job with its conversion. ARGV: clock, job. Returns {job, conversion}, or false for an unknown job.

return ticket_reply(ARGV[2])
