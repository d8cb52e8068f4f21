-- Move jobs to the stream of what could not be delivered; those that nobody wants just go.
--
-- KEYS: 1 jobs   2 dead (stream)   3 queue of the endpoint
-- ARGV: 1 entries that are kept, about, then for each job: id, wanted (1 or 0), app, url, kind,
--       reason, event

for i = 2, #ARGV, 7 do
  redis.call('ZREM', KEYS[3], ARGV[i])
  redis.call('HDEL', KEYS[1], ARGV[i])
  if ARGV[i + 1] == '1' then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', 'app', ARGV[i + 2], 'url', ARGV[i + 3],
      'kind', ARGV[i + 4], 'reason', ARGV[i + 5], 'event', ARGV[i + 6])
  end
end
return (#ARGV - 1) / 7
