-- Add jobs, each to the queue of its endpoint. Keys that are made here share the hash tag.
--
-- KEYS: 1 due (zset: endpoint, when it is looked at)   2 jobs (hash)   3 number (string)
--       4 endpoints (hash: token, failures, since of each)
-- ARGV: 1 ms that a held job waits   2 jobs that may wait for one endpoint, then for each job:
--       endpoint, what to do (add, hold, recall), name of the held job, wanted (1 or 0), its JSON
--       without the opening brace
-- hold: due later, under a name by which it can be recalled. recall: such a job is removed, and
-- this one with it; otherwise it is added.
-- Returns the positions (from 0) of those for which there was no room.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local refused = {}

for i = 3, #ARGV, 5 do
  local endpoint, what, name, wanted, rest = unpack(ARGV, i, i + 4)
  local queue = KEYS[1] .. ':' .. endpoint
  local held = endpoint .. ':' .. name
  local id
  local at = now
  if what == 'hold' then
    id = held
    at = now + ARGV[1]
  elseif what == 'recall' and redis.call('ZREM', queue, held) == 1 then
    redis.call('HDEL', KEYS[2], held)
  elseif wanted == '1' then
    id = string.format('%s:%016.0f', endpoint, redis.call('INCR', KEYS[3]))
  end
  if id and redis.call('ZCARD', queue) >= tonumber(ARGV[2]) then
    refused[#refused + 1] = (i - 3) / 5
    id = nil
  end
  if id then
    at = string.format('%.0f', at)
    redis.call('ZADD', queue, at, id)
    redis.call('HSET', KEYS[2], id, '{"since":' .. at .. ',' .. rest)
    -- An endpoint that is being posted to, or failed, is looked at when that says.
    local look = redis.call('ZSCORE', KEYS[1], endpoint)
    local busy = redis.call('HEXISTS', KEYS[4], endpoint .. ':token') == 1
      or redis.call('HEXISTS', KEYS[4], endpoint .. ':failures') == 1
    if not look or (not busy and tonumber(at) < tonumber(look)) then
      redis.call('ZADD', KEYS[1], at, endpoint)
    end
  end
end
return refused
