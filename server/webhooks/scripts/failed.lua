-- End a claim whose POST failed: the endpoint rests, or the one job that it refuses steps aside.
--
-- KEYS: 1 due   2 jobs   3 endpoints   4 queue of the endpoint
-- ARGV: 1 endpoint   2 token of the claim   3 ms of rest   4 ms after which it is given up
--       5 id of the job that steps aside, or nothing   6 ms until it comes again
-- Returns 1 where the endpoint has failed for so long that its old jobs are given up; -1 where the
-- claim had run out.

if redis.call('HGET', KEYS[3], ARGV[1] .. ':token') ~= ARGV[2] then
  return -1
end
redis.call('HDEL', KEYS[3], ARGV[1] .. ':token')

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local failures = tonumber(redis.call('HGET', KEYS[3], ARGV[1] .. ':failures')) or 0
local rest = tonumber(ARGV[3])

if ARGV[5] ~= '' then
  local already = string.sub(ARGV[5], #ARGV[1] + 2, #ARGV[1] + 2) == '~'
  local id = ARGV[5]
  if not already then
    id = ARGV[1] .. ':~' .. string.sub(id, #ARGV[1] + 2)
    redis.call('HSET', KEYS[2], id, redis.call('HGET', KEYS[2], ARGV[5]) or '')
    redis.call('ZREM', KEYS[4], ARGV[5])
    redis.call('HDEL', KEYS[2], ARGV[5])
  end
  redis.call('ZADD', KEYS[4], now + ARGV[6], id)
  if already then
    -- That is nothing new, and no reason to rest.
    redis.call('ZADD', KEYS[1], now, ARGV[1])
    return 0
  end
end

local since = tonumber(redis.call('HGET', KEYS[3], ARGV[1] .. ':since'))
if not since then
  since = now
  redis.call('HSET', KEYS[3], ARGV[1] .. ':since', string.format('%.0f', now))
end
redis.call('HSET', KEYS[3], ARGV[1] .. ':failures', failures + 1)
local left = since + ARGV[4] - now
if left > 0 then
  -- The last attempt comes when the time is over, not a rest later.
  rest = math.min(rest, left)
end
redis.call('ZADD', KEYS[1], now + rest, ARGV[1])
if left > 0 then
  return 0
end
return 1
