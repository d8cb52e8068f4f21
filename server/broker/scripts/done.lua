-- Acknowledge and remove entries of the durable entrance, as its present holder.
--
-- KEYS: 1 stream   2 lease (string)
-- ARGV: 1 token of the lease   2 group   then entry ids: at least one, at most some thousands
-- Returns how many were removed.

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
local ids = {}
for i = 3, #ARGV do
  ids[#ids + 1] = ARGV[i]
end
redis.call('XACK', KEYS[1], ARGV[2], unpack(ids))
return redis.call('XDEL', KEYS[1], unpack(ids))
