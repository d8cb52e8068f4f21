-- Remove delivered jobs, and let the endpoint have its next ones.
--
-- KEYS: 1 due   2 jobs   3 endpoints   4 queue of the endpoint
-- ARGV: 1 endpoint   2 token of the claim, then the ids of the jobs

for i = 3, #ARGV do
  redis.call('ZREM', KEYS[4], ARGV[i])
  redis.call('HDEL', KEYS[2], ARGV[i])
end
if redis.call('HGET', KEYS[3], ARGV[1] .. ':token') ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[3], ARGV[1] .. ':token', ARGV[1] .. ':failures', ARGV[1] .. ':since')
local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
if #first > 0 then
  redis.call('ZADD', KEYS[1], first[2], ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 1
