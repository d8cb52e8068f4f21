-- Add jobs, each to the queue of its endpoint. Keys that are made here share the hash tag.
--
-- KEYS: 1 due (zset: endpoint, when it is looked at)   2 jobs (hash)   3 number (string)
--       4 endpoints (hash: token, failures, since of each)   5 last (beginning of strings)
-- ARGV: 1 ms that a held job waits   2 jobs that may wait for one endpoint, then for each job:
--       endpoint, what to do (add, hold, recall), name of the held job, wanted (1 or 0),
--       when it happened (us; 0: now), its JSON without the opening brace
-- hold: due later, under a name by which it can be recalled. recall: such a job is removed, and
-- this one with it; otherwise it is added.
-- Nodes may write in another order than things happened. So the last that happened under a name is
-- known for a while, with its time: `b` (it began; the job that tells so) or `g` (it ended; the job
-- that tells of the beginning before, or 1 where it took the place of an earlier end). An end from
-- before a beginning is dropped with that beginning; a beginning from before an end leaves it alone.
-- Returns the positions (from 0) of those for which there was no room.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local remembered = 60
local refused = {}

local function last_of(held)
  local last = redis.call('GET', KEYS[5] .. ':' .. held)
  if not last then
    return '', 0, ''
  end
  local kind, at, more = string.match(last, '^(%a):(%d+):(.*)$')
  return kind, tonumber(at), more
end

local function remember(held, kind, at, more)
  local last = string.format('%s:%.0f:%s', kind, at, more)
  redis.call('SET', KEYS[5] .. ':' .. held, last, 'EX', remembered)
end

for i = 3, #ARGV, 6 do
  local endpoint, what, name, wanted, at_us, rest = unpack(ARGV, i, i + 5)
  local queue = KEYS[1] .. ':' .. endpoint
  local held = endpoint .. ':' .. name
  local at = now
  local happened = tonumber(at_us)
  if happened == 0 then
    happened = time[1] * 1000000 + time[2]
  end
  local kind, last, more = '', 0, ''
  if what ~= 'add' then
    kind, last, more = last_of(held)
  end
  local stale = last > happened

  local id
  if what == 'hold' and not stale then
    id = held
    at = now + ARGV[1]
    local instead = redis.call('ZSCORE', queue, held) and '1'
    remember(held, 'g', happened, instead or (kind == 'b' and more or ''))
  elseif what == 'hold' and (kind == 'b' or #more > 1) then
    redis.call('ZREM', queue, more)
    redis.call('HDEL', KEYS[2], more)
    remember(held, kind, last, '')
  elseif what == 'hold' then
    remember(held, 'g', last, '1')
  elseif what == 'recall' and stale and kind == 'g' and more == '1' then
    remember(held, 'g', last, '')
  elseif what == 'recall' and not stale and redis.call('ZREM', queue, held) == 1 then
    redis.call('HDEL', KEYS[2], held)
    remember(held, 'b', happened, '')
  elseif wanted == '1' then
    id = string.format('%s:%016.0f', endpoint, redis.call('INCR', KEYS[3]))
  end
  if what == 'recall' and not stale and id then
    remember(held, 'b', happened, id)
  end

  if id and redis.call('ZCARD', queue) >= tonumber(ARGV[2]) then
    refused[#refused + 1] = (i - 3) / 6
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
