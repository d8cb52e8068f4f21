-- A node's sockets subscribe to a channel: count them, and let a presence member in.
--
-- KEYS: 1 channel (hash: sequence, epoch, roster, last)   2 sockets (hash: node, count)
--       3 members (hash: user id, user_info)        4 holders (hash: user id, nodes)
--       5 cache (string)                            6 bus channel      7 counted (string)
-- ARGV: 1 node    2 how many sockets of it are subscribed now
--       3 user id that this node brings ('' for none)   4 its user_info   5 members allowed
--       6 and 7 static header and frame of member_added
--       8 what is asked: r = the roster, c = the cached event, n = the count, told again
--       9 and 10 static header and beginning of the frame of subscription_count ('' for none)
--       11 seconds after which an idle channel is forgotten
-- Returns {0} where the roster is full, else {1, occupied now (0 or 1), sockets in all,
--   member added (0 or 1), count told later (0 or 1), sequence, epoch, roster's version,
--   {user id, user_info, ...}, cached message or '', time (us), time of the last kept event (ms)}.

local user = ARGV[3]
local added = 0
if user ~= '' then
  local nodes = redis.call('HGET', KEYS[4], user)
  if not nodes then
    if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[5]) then
      return {0}
    end
    redis.call('HSET', KEYS[3], user, ARGV[4])
    redis.call('HSET', KEYS[4], user, ARGV[1])
    added = 1
  elseif not string.find(',' .. nodes .. ',', ',' .. ARGV[1] .. ',', 1, true) then
    redis.call('HSET', KEYS[4], user, nodes .. ',' .. ARGV[1])
  end
end

local function total()
  local sum = 0
  for _, count in ipairs(redis.call('HVALS', KEYS[2])) do
    sum = sum + tonumber(count)
  end
  return sum
end

local before = total()
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local now = total()

local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function tell(kind, version, header, frame)
  local fixed = struct.pack('>BBI8I8B', 1, kind, version, ms, 0)
  redis.call('PUBLISH', KEYS[6], fixed .. header .. struct.pack('>I4', #frame) .. frame)
end

if added == 1 then
  tell(3, redis.call('HINCRBY', KEYS[1], 'roster', 1), ARGV[6], ARGV[7])
  redis.call('EXPIRE', KEYS[1], ARGV[11])
end

local later = 0
if ARGV[10] ~= '' and (before ~= now or string.find(ARGV[8], 'n', 1, true)) then
  -- Over a hundred subscribers are told every five seconds.
  if now <= 100 or redis.call('SET', KEYS[7], '1', 'NX', 'EX', '5') then
    tell(4, 0, ARGV[9], ARGV[10] .. string.format('%d', now) .. '}"}')
  else
    later = 1
  end
end

local state = redis.call('HMGET', KEYS[1], 'sequence', 'epoch', 'roster', 'last')
local roster = {}
if string.find(ARGV[8], 'r', 1, true) then
  roster = redis.call('HGETALL', KEYS[3])
  -- On the bus it stands behind every change that the roster holds.
  tell(6, 0, ARGV[6], '')
end
local cached = ''
if string.find(ARGV[8], 'c', 1, true) then
  cached = redis.call('GET', KEYS[5]) or ''
end
local occupied = 0
if before == 0 and now > 0 then
  occupied = 1
end
return {1, occupied, now, added, later, tonumber(state[1] or 0), state[2] or '',
        tonumber(state[3] or 0), roster, cached, time[1] * 1000000 + time[2],
        tonumber(state[4] or 0)}
