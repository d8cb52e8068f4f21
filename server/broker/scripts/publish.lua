-- Publish one event: dedupe, number, store, publish. One round trip, one slot.
--
-- KEYS: 1 channel (hash: sequence, epoch, last)   2 log (stream)   3 seen (string)   4 bus channel
--       5 cache (string)                    6 states (hash)
-- ARGV: 1 candidate epoch   2 static header   3 kind (1: the number stands in the frames)
--       4 history, events   5 history, seconds (0: this event is not kept)   6 dedupe, seconds
--       7 seconds after which an idle channel is forgotten
--       8 seconds for which it is kept as the channel's last event (0: not at all)
--       9 whose state it tells ('' for none)   10 the state
--       then head and tail of each frame
-- Returns {1, sequence, epoch, the state before, or ''}; or {0, "sequence:epoch"} for an event id
-- that was here before.

local seen = redis.call('GET', KEYS[3])
if seen then
  return {0, seen}
end

local sequence = redis.call('HINCRBY', KEYS[1], 'sequence', 1)
local epoch
if sequence == 1 then
  epoch = ARGV[1]
  redis.call('HSET', KEYS[1], 'epoch', epoch)
else
  epoch = redis.call('HGET', KEYS[1], 'epoch')
end
redis.call('EXPIRE', KEYS[1], ARGV[7])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The frame's data is a JSON string inside JSON: its quotes are escaped once.
local number = ''
if ARGV[3] == '1' then
  number = string.format('%d', sequence) .. ',\\"epoch\\":\\"' .. epoch
end
local parts = {struct.pack('>BBI8I8B', 1, ARGV[3], sequence, now, #epoch), epoch, ARGV[2]}
for i = 11, #ARGV, 2 do
  parts[#parts + 1] = struct.pack('>I4', #ARGV[i] + #number + #ARGV[i + 1])
  parts[#parts + 1] = ARGV[i]
  parts[#parts + 1] = number
  parts[#parts + 1] = ARGV[i + 1]
end
local message = table.concat(parts)

redis.call('SET', KEYS[3], string.format('%d', sequence) .. ':' .. epoch, 'EX', ARGV[6])
if ARGV[5] ~= '0' then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'm', message)
  redis.call('XTRIM', KEYS[2], 'MINID', '~', string.format('%d', math.max(now - ARGV[5] * 1000, 0)))
  redis.call('EXPIRE', KEYS[2], ARGV[5])
  redis.call('HSET', KEYS[1], 'last', string.format('%d', now))
end
if ARGV[8] ~= '0' then
  redis.call('SET', KEYS[5], message, 'EX', ARGV[8])
end
local before = ''
if ARGV[9] ~= '' then
  before = redis.call('HGET', KEYS[6], ARGV[9]) or ''
  redis.call('HSET', KEYS[6], ARGV[9], ARGV[10])
  redis.call('EXPIRE', KEYS[6], ARGV[7])
end
redis.call('PUBLISH', KEYS[4], message)
return {1, sequence, epoch, before}
