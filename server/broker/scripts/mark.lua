-- Put a mark behind all that every node has been told so far.
--
-- KEYS: 1 docket (hash: mark)
-- ARGV: 1 pub/sub channel of orders to every node
-- Returns the mark, a whole number that rises.

-- Redis' clock, in µs: a mark does not come again where Redis has forgotten the last one.
local time = redis.call('TIME')
local last = tonumber(redis.call('HGET', KEYS[1], 'mark') or 0)
local mark = math.max(time[1] * 1000000 + time[2], last + 1)
local text = string.format('%.0f', mark)
redis.call('HSET', KEYS[1], 'mark', text)
redis.call('PUBLISH', ARGV[1], '{"mark":' .. text .. '}')
return mark
