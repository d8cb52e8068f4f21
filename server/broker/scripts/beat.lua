-- A node says that it lives, and asks which others do and which do not.
--
-- KEYS: 1 nodes (zset: node, time of the last heartbeat in ms)
-- ARGV: 1 node   2 ms without a heartbeat after which a node is dead
-- Returns {whether the node was known (0 or 1), {other living nodes}, {dead nodes}, time (ms)}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('ZSCORE', KEYS[1], ARGV[1]) and 1 or 0
redis.call('ZADD', KEYS[1], now, ARGV[1])
local last = string.format('%d', now - ARGV[2])
local living = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. last, '+inf')) do
  if node ~= ARGV[1] then
    living[#living + 1] = node
  end
end
return {known, living, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', last), now}
