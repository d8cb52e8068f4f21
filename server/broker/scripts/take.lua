-- Read the durable entrance, as its present holder: first what a predecessor left, then what is new.
--
-- KEYS: 1 stream   2 lease (string)
-- ARGV: 1 token of the lease   2 group   3 consumer   4 entries at most
--       5 id behind which to read: of the last entry that this holder has been given, or '0'
-- Returns {0} where another node holds the lease, else {1, last id that the stream has given, then
-- {entry id, times delivered, {field, value, ...}}, ...}.

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return {0}
end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[2], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
  return made
end

local info = redis.call('XINFO', 'STREAM', KEYS[1])
local taken = {1, '0-0'}
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    taken[2] = info[i + 1]
  end
end

local from = '(' .. ARGV[5]
repeat
  local left = redis.call('XAUTOCLAIM', KEYS[1], ARGV[2], ARGV[3], 0, from, 'COUNT', ARGV[4])
  for _, entry in ipairs(left[2]) do
    -- Without fields it is one that somebody has deleted meanwhile.
    if entry and entry[2] then
      local pending = redis.call('XPENDING', KEYS[1], ARGV[2], entry[1], entry[1], 1)
      taken[#taken + 1] = {entry[1], pending[1][4], entry[2]}
    end
  end
  if #taken > 2 then
    return taken
  end
  from = left[1]
until from == '0-0'

local fresh = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4],
                         'STREAMS', KEYS[1], '>')
for _, entry in ipairs(fresh and fresh[1][2] or {}) do
  taken[#taken + 1] = {entry[1], 1, entry[2]}
end
return taken
