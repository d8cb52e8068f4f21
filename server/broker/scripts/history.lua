-- What a channel has carried since a moment, and what it takes to know whether that is all.
--
-- KEYS: 1 channel (hash: sequence, epoch, last)   2 log (stream)
-- ARGV: 1 ms since the epoch   2 events at most
-- Returns {sequence, epoch, time of the last kept event (ms), entries in the log,
--   time of the first entry (ms), {message, ...}, {id of its entry, ...}}.

local state = redis.call('HMGET', KEYS[1], 'sequence', 'epoch', 'last')
local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
local began = 0
if first[1] then
  began = tonumber(string.match(first[1][1], '^%d+'))
end
local found = redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', ARGV[2])
local messages, ids = {}, {}
for i, entry in ipairs(found) do
  ids[i] = entry[1]
  messages[i] = entry[2][2]
end
return {tonumber(state[1] or 0), state[2] or '', tonumber(state[3] or 0),
        redis.call('XLEN', KEYS[2]), began, messages, ids}
