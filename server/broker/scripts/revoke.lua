-- Revoke, or lift a revocation, and tell every node.
--
-- KEYS: 1 revocations (hash: what:value, JSON)   2 docket (hash: done, before)
-- ARGV: 1 what   2 value   3 id ('' to lift)   4 seconds from now until it is in force
--       5 seconds for which it is in force     6 pub/sub channel of orders to every node
--       7 revocations at most
--       8 seconds within which what is said again is the same
--       9 and 10 place of the message that asks for it: mark, and how many before ('' for none)
-- Returns {1, id in force, 1 where anything has changed}, {0} where there are too many, or {2}
-- where that message or a later one has been here before.

if ARGV[9] ~= '' then
  local mark, before = tonumber(ARGV[9]), tonumber(ARGV[10])
  local last = redis.call('HMGET', KEYS[2], 'done', 'before')
  local done = tonumber(last[1] or 0)
  if mark < done or (mark == done and before >= tonumber(last[2])) then
    return {2}
  end
  redis.call('HSET', KEYS[2], 'done', ARGV[9], 'before', ARGV[10])
end

local field = ARGV[1] .. ':' .. ARGV[2]
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

if ARGV[3] == '' then
  local lifted = redis.call('HDEL', KEYS[1], field)
  redis.call('PUBLISH', ARGV[6], cjson.encode({lift = {what = ARGV[1], value = ARGV[2]}}))
  return {1, '', lifted}
end

local at = now + ARGV[4]
local before
local known = redis.call('HGET', KEYS[1], field)
if known then
  known = cjson.decode(known)
  if known.at <= at and at - known.at < tonumber(ARGV[8]) then
    return {1, known.id, 0}
  end
  if known.at <= now then
    -- It stays in force for what it refuses now, until the new one is.
    before = known.at
  end
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[7]) then
  return {0}
end
local entry = {id = ARGV[3], what = ARGV[1], value = ARGV[2], at = at, before = before,
               ['until'] = at + ARGV[5]}
redis.call('HSET', KEYS[1], field, cjson.encode(entry))
redis.call('PUBLISH', ARGV[6], cjson.encode({revoke = entry}))
return {1, ARGV[3], 1}
