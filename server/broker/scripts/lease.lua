-- Take a lease that nobody has, or keep one's own.
--
-- KEYS: 1 lease (string: its holder's token)   2 last (string: the last token that was given)
-- ARGV: 1 the caller's token ('0': none)   2 ms for which it lasts from now on
--       3 '1': where nobody has it, say so and leave it
-- Returns the caller's token; 0 where another has the lease; -1 where nobody has.

local holder = redis.call('GET', KEYS[1])
if holder then
  if holder ~= ARGV[1] then
    return 0
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(holder)
end
if ARGV[3] == '1' then
  return -1
end
-- Redis' clock, in µs: a token does not come again where Redis has forgotten the last one.
local time = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
local token = math.max(time[1] * 1000000 + time[2], last + 1)
redis.call('SET', KEYS[2], string.format('%.0f', token))
redis.call('SET', KEYS[1], string.format('%.0f', token), 'PX', ARGV[2])
return token
