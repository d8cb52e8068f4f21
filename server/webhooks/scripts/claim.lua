-- Claim endpoints that have due jobs, each for one POST; nobody else gets them until it is settled
-- or the claim has run out.
--
-- KEYS: 1 due   2 jobs   3 number   4 endpoints
-- ARGV: 1 token   2 ms that the claim holds   3 endpoints   4 jobs of each   5 bytes of each, about
-- Returns {now, ms until there is something to look at or -1, {endpoint, failures, id, job, …}, …}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {string.format('%.0f', now), -1}

-- The kind of a job shows in what its id has after the endpoint: digits, `~` for one that the
-- endpoint refuses alone, or the name of a held one.
local function mark(endpoint, id)
  return string.sub(id, #endpoint + 2, #endpoint + 2)
end

-- Once its time has come a held job cannot be recalled any more.
local function numbered(endpoint, queue, held)
  local id = string.format('%s:%016.0f', endpoint, redis.call('INCR', KEYS[3]))
  redis.call('ZADD', queue, redis.call('ZSCORE', queue, held), id)
  redis.call('HSET', KEYS[2], id, redis.call('HGET', KEYS[2], held) or '')
  redis.call('ZREM', queue, held)
  redis.call('HDEL', KEYS[2], held)
  return id
end

local function take(endpoint, queue, ids, failures)
  local taken = {endpoint, failures}
  local bytes = 0
  for position, id in ipairs(ids) do
    local alone = mark(endpoint, id) == '~'
    if position > 1 and (alone or bytes >= tonumber(ARGV[5])) then
      break
    end
    if not string.match(mark(endpoint, id), '[%d~]') then
      id = numbered(endpoint, queue, id)
    end
    local job = redis.call('HGET', KEYS[2], id)
    if job and job ~= '' then
      taken[#taken + 1] = id
      taken[#taken + 1] = job
      bytes = bytes + #job
    else
      redis.call('ZREM', queue, id)
    end
    if alone then
      break
    end
  end
  return taken
end

for _, endpoint in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local queue = KEYS[1] .. ':' .. endpoint
  local failures = tonumber(redis.call('HGET', KEYS[4], endpoint .. ':failures')) or 0
  -- An endpoint that fails is tried with less: all of it may fail for one event.
  local size = math.max(1, math.floor(ARGV[4] / 4 ^ failures))
  local ids = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, size)
  if #ids > 0 then
    local taken = take(endpoint, queue, ids, failures)
    if #taken > 2 then
      redis.call('ZADD', KEYS[1], now + ARGV[2], endpoint)
      redis.call('HSET', KEYS[4], endpoint .. ':token', ARGV[1])
      answer[#answer + 1] = taken
    end
  else
    local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
    if #first > 0 then
      redis.call('ZADD', KEYS[1], first[2], endpoint)
    else
      redis.call('ZREM', KEYS[1], endpoint)
    end
    -- It has rested, and what comes next may be tried at once.
    redis.call('HDEL', KEYS[4], endpoint .. ':token', endpoint .. ':failures', endpoint .. ':since')
  end
end

local look = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #look > 0 then
  answer[2] = math.max(0, look[2] - now)
end
return answer
