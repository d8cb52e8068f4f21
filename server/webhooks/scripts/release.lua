-- Give a claim back: the next node may have it at once.
--
-- KEYS: 1 due   2 endpoints
-- ARGV: 1 endpoint   2 token of the claim

if redis.call('HGET', KEYS[2], ARGV[1] .. ':token') ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[2], ARGV[1] .. ':token')
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return 1
