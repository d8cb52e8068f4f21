-- A node's sockets leave a channel: count those that stay, and let a presence member go.
--
-- KEYS: 1 channel (hash: roster)               2 sockets (hash: node, count)
--       3 members (hash: user id, user_info)   4 holders (hash: user id, nodes)
--       5 bus channel                          6 counted (string)
-- ARGV: 1 node    2 how many sockets of it are still subscribed
--       3 user id of which it has none any more ('' for none)
--       4 and 5 static header and frame of member_removed
--       6 and 7 static header and beginning of the frame of subscription_count ('' for none)
--       8 seconds after which an idle channel is forgotten
-- Returns {vacated now (0 or 1), sockets in all, member removed (0 or 1), count told later (0 or 1),
--   time (us)}.

local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function tell(kind, version, header, frame)
  local fixed = struct.pack('>BBI8I8B', 1, kind, version, ms, 0)
  redis.call('PUBLISH', KEYS[5], fixed .. header .. struct.pack('>I4', #frame) .. frame)
end

local function tell_removed()
  tell(3, redis.call('HINCRBY', KEYS[1], 'roster', 1), ARGV[4], ARGV[5])
  redis.call('EXPIRE', KEYS[1], ARGV[8])
end

local removed = 0
local nodes = ARGV[3] ~= '' and redis.call('HGET', KEYS[4], ARGV[3])
if ARGV[3] ~= '' and not nodes then
  -- Redis may have lost its data since the member came; those who saw it come must see it go.
  tell_removed()
elseif nodes then
  local left = {}
  for node in string.gmatch(nodes, '[^,]+') do
    if node ~= ARGV[1] then
      left[#left + 1] = node
    end
  end
  if #left > 0 then
    redis.call('HSET', KEYS[4], ARGV[3], table.concat(left, ','))
  else
    redis.call('HDEL', KEYS[4], ARGV[3])
    redis.call('HDEL', KEYS[3], ARGV[3])
    removed = 1
    tell_removed()
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
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
local now = total()

local later = 0
if ARGV[7] ~= '' and before ~= now and now > 0 then
  if now <= 100 or redis.call('SET', KEYS[6], '1', 'NX', 'EX', '5') then
    tell(4, 0, ARGV[6], ARGV[7] .. string.format('%d', now) .. '}"}')
  else
    later = 1
  end
end

local vacated = 0
if before > 0 and now == 0 then
  vacated = 1
end
return {vacated, now, removed, later, time[1] * 1000000 + time[2]}
