-- Give a lease up, where it is still the caller's.
--
-- KEYS: 1 lease (string)
-- ARGV: 1 the caller's token
-- Returns whether it was.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
