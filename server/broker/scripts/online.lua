-- How many sockets of a node are signed in as a user: a user is online while any node has one.
--
-- KEYS: 1 online (hash: node, sockets)   2 bus channel
-- ARGV: 1 node   2 sockets   3 and 4 static header and frame of "online"
--       5 and 6 static header and frame of "offline"
-- Returns {changed (0 or 1), online (0 or 1)}.

local before = redis.call('EXISTS', KEYS[1])
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
local now = redis.call('EXISTS', KEYS[1])
if before == now then
  return {0, now}
end
local at = now == 1 and 3 or 5
local time = redis.call('TIME')
local fixed = struct.pack('>BBI8I8B', 1, 5, 0, time[1] * 1000 + math.floor(time[2] / 1000), 0)
redis.call('PUBLISH', KEYS[2], fixed .. ARGV[at] .. struct.pack('>I4', #ARGV[at + 1]) .. ARGV[at + 1])
return {1, now}
