-- Read jobs that have been due for longer than they are retried.
--
-- KEYS: 1 jobs   2 queue of the endpoint
-- ARGV: 1 ms for which jobs are retried   2 how many at most
-- Returns {id, job, …}.

local time = redis.call('TIME')
local before = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local answer = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', before, 'LIMIT', 0, ARGV[2])) do
  answer[#answer + 1] = id
  answer[#answer + 1] = redis.call('HGET', KEYS[1], id) or ''
end
return answer
